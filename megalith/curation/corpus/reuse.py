"""Partitions of an earlier `documents` artifact that stand for files that have not changed.

A further file, or one that has changed, is read without reading the others again. A partition is taken over where each
of its files has the digest that it had, is read in the same way, and stands whole in partitions that are taken over;
all else is read anew. Files are linked, not copied, where the file system can.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from megalith.artifacts import MANIFEST, read_manifest
from megalith.artifacts.digests import first_fault
from megalith.curation.corpus.read_units import Dataset, Piece, Unit, units_of
from megalith.errors import InputError

FOLDERS = (("text", "parquet"), ("signatures", "u32"), ("bands", "u64"), ("logs/units", "json"))
"""The files of a partition: folder and ending."""

Inputs = Mapping[str, str]
"""Digests of files by `input_name`."""


def input_name(number: int, dataset: Dataset, name: str) -> str:
    """The name of a file among the inputs of a `documents` artifact."""
    return f"{number} {dataset.name} {name}"


def units_with(earlier: Path, workspace: Path, datasets: Sequence[Dataset], inputs: Inputs, asked: Any) -> list[Unit]:
    """The units of all data sets: first those of the artifact at `earlier` whose partitions were put into `workspace`.

    `asked` are the settings of the artifact that is made; one of other settings has nothing to take over.
    """
    found = _standing(earlier, datasets, inputs, asked)
    done = {(unit.dataset, piece.name) for unit, _ in found for piece in unit.pieces}
    for number, (unit, old) in enumerate(found):
        _take_over(earlier, old, workspace, number)
        found[number] = (replace(unit, number=number), old)
    left = [
        replace(dataset, files=tuple(one for one in dataset.files if (number, one[1]) not in done))
        for number, dataset in enumerate(datasets)
    ]
    made = [unit for unit, _ in found]
    return [*made, *(replace(unit, number=len(made) + unit.number) for unit in units_of(left))]


def _standing(
    earlier: Path, datasets: Sequence[Dataset], inputs: Inputs, asked: Mapping[str, Any]
) -> list[tuple[Unit, int]]:
    """The units that may be taken over, each with its number in the earlier artifact."""
    try:
        if not (earlier / MANIFEST).is_file():
            return []
        manifest = read_manifest(earlier)
        about = json.loads((earlier / "units.json").read_text())
    except (InputError, OSError, ValueError):
        return []
    shared = [key for key in asked if key != "read"]
    if manifest.stage != "documents" or any(manifest.settings.get(key) != asked[key] for key in shared):
        return []
    if _beside(manifest.inputs) != _beside(inputs) or first_fault(earlier, manifest):
        return []
    how_it_was = dict(zip(about["datasets"], manifest.settings.get("read", []), strict=False))
    numbers = {dataset.name: number for number, dataset in enumerate(datasets)}
    paths = _paths(datasets)
    units: list[tuple[Unit, int]] = []
    whole: dict[tuple[int, str], bool] = {}
    for old, unit in enumerate(about["units"]):
        was = unit["dataset"]
        name = about["datasets"][was] if was >= 0 else None  # what is there to learn from is read anew
        number = numbers.get(name) if name is not None else None
        pieces = tuple(_piece(piece, paths, number) for piece in unit["pieces"])
        marked = (earlier / "logs" / "units" / f"{old:05d}.json").is_file()
        fits = number is not None and marked and how_it_was.get(name) == datasets[number].how.told
        for piece, (named, _) in zip(pieces, unit["pieces"], strict=True):
            same = fits and piece is not None and number is not None and datasets[number].corpus
            if same and number is not None:
                before = manifest.inputs.get(f"{was} {name} {named}")
                same = before is not None and before == inputs.get(input_name(number, datasets[number], named))
            place = (number if number is not None else -1, f"{was} {named}" if number is None else named)
            whole[place] = whole.get(place, True) and same
        if number is not None and all(piece is not None for piece in pieces):
            units.append((Unit(old, number, tuple(piece for piece in pieces if piece is not None)), old))
        elif number is not None:
            whole.update({(number, named): False for named, _ in unit["pieces"]})
    while True:
        kept = [one for one in units if all(whole[one[0].dataset, piece.name] for piece in one[0].pieces)]
        if len(kept) == len(units):
            return units
        for unit, _ in units:
            if not all(whole[unit.dataset, piece.name] for piece in unit.pieces):
                whole.update({(unit.dataset, piece.name): False for piece in unit.pieces})
        units = kept


def _beside(inputs: Inputs) -> dict[str, str]:
    """The inputs that every partition was made with: lists of URLs, the model of languages."""
    return {name: digest for name, digest in inputs.items() if name.startswith(("urls ", "language model"))}


def plan_of(units: Sequence[Unit]) -> list[dict[str, Any]]:
    """The units as they are written down for another attempt: without addresses, which may hold secrets."""
    return [replace(unit, pieces=tuple(replace(piece, path="") for piece in unit.pieces)).task for unit in units]


def again(units: Sequence[Unit], datasets: Sequence[Dataset]) -> list[Unit]:
    """The units of an earlier attempt, with their files where they lie now."""
    paths = _paths(datasets)
    return [
        replace(
            unit,
            pieces=tuple(replace(piece, path=paths[unit.dataset, piece.name]) for piece in unit.pieces),
        )
        for unit in units
    ]


def _paths(datasets: Sequence[Dataset]) -> dict[tuple[int, str], str]:
    return {(number, name): str(file) for number, one in enumerate(datasets) for file, name in one.files}


def _piece(told: Any, paths: Mapping[tuple[int, str], str], number: int | None) -> Piece | None:
    """The piece of a file that is still there."""
    name, part = told
    path = None if number is None else paths.get((number, name))
    return None if path is None else Piece(path, name, tuple(part) if part else None)


def _take_over(earlier: Path, old: int, workspace: Path, number: int) -> None:
    for folder, ending in FOLDERS:
        source = earlier / folder / f"{old:05d}.{ending}"
        target = workspace / folder / f"{number:05d}.{ending}"
        if target.exists():
            continue
        try:
            os.link(source, target)
        except OSError:
            part = target.with_name(f".{target.name}.copied")
            shutil.copyfile(source, part)
            part.rename(target)
