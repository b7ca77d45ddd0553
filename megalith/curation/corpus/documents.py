"""The `documents` artifact: every document that was read, as text, with all that decisions look at.

A unit becomes one partition: `text/NNNNN.parquet` (a row a document), `signatures/NNNNN.u32` (a MinHash signature a
row) and `bands/NNNNN.u64` (one band after another, a key a row). Its counts, written last under `logs/units`, mark it
as whole, so a run that was killed goes on at the units that are not. Nothing is decided here but what is not worth
extracting (URLs), so thresholds can be changed and decisions taken again without reading anew.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce, whole
from megalith.artifacts.digests import file_digests
from megalith.console import note
from megalith.curation.corpus.document_table import REFERENCE, Partition
from megalith.curation.corpus.read_units import Dataset, Unit, model_file, weight
from megalith.curation.corpus.reuse import again, input_name, plan_of, units_with
from megalith.curation.engine import Told, spread
from megalith.curation.partition import DOCUMENTS, MapSettings, MapUnit
from megalith.curation.reading import EMPTY_FILES, KINDS, Remote
from megalith.curation.reading.document import OTHER_ENCODING, REPLACED
from megalith.curation.text.fasttext import read_fasttext
from megalith.errors import InputError
from megalith.recipe import CurateConfig, UrlConfig
from megalith.secrets import masked

VERSION = 4
TOLD_FILES = 20
"""Files that gave little are told by name, so many at most."""


def make_documents(path: Path, datasets: Sequence[Dataset], config: CurateConfig, told: Told) -> Artifact:
    """The documents of all `datasets` at `path`, taken up where an earlier attempt left them.

    Raises InputError when a file is damaged beyond use, the language model is none, or there is no document at all.
    """
    model = model_file(config.language_model, "curate.language_model")
    how = tuple(dataset.how for dataset in datasets)
    settings = MapSettings(
        config.extractor, config.minhash, config.urls, config.seconds_per_document, config.clean, model, how
    )
    asked = {
        "extractor": settings.extractor,
        "minhash": config.minhash.signed_by,
        "urls": settings.urls.model_dump(mode="json"),
        "seconds_per_document": settings.seconds_per_document,
        "clean": settings.clean.model_dump(mode="json"),
        "read": [dataset.how.told for dataset in datasets],
        "version": VERSION,
    }
    here = file_digests([file for dataset in datasets for file, _ in dataset.files if isinstance(file, Path)])
    inputs = (
        {
            input_name(number, dataset, name): file.digest if isinstance(file, Remote) else here[file]
            for number, dataset in enumerate(datasets)
            for file, name in dataset.files
        }
        | {f"urls {file}": file_digest(file) for file in _lists(settings.urls)}
        | ({"language model": file_digest(model)} if model else {})
    )

    def build(workspace: Workspace) -> Mapping[str, Any]:
        for folder in ("text", "signatures", "bands", "logs/units"):
            (workspace.path / folder).mkdir(parents=True, exist_ok=True)
        plan = workspace.path / "logs" / "plan.json"  # the same units after a kill, whatever stands at `path` by then
        if plan.is_file():
            units = again([Unit.of(task) for task in json.loads(plan.read_text())], datasets)
        else:
            units = units_with(path, workspace.path, datasets, inputs, asked)
            with whole(plan) as file:
                file.write_text(json.dumps(plan_of(units)))
        return _build(workspace, datasets, units, settings, told)

    return produce(
        path,
        stage="documents",
        settings=asked,
        inputs=inputs,
        seed=0,  # nothing is drawn
        build=build,
    )


def partitions_of(documents: Artifact, dataset: int | None = None) -> list[Partition]:
    """The partitions of a `documents` artifact that hold documents, all as of one `dataset` if it is given."""
    about = json.loads((documents.path / "units.json").read_text())
    return [
        Partition(documents.path, number, unit["dataset"] if dataset is None else dataset, unit["rows"])
        for number, unit in enumerate(about["units"])
        if unit["rows"] and (dataset is None or unit["dataset"] >= 0)
    ]


def _lists(rules: UrlConfig) -> list[Path]:
    """The files of the lists of URLs and words."""
    named = [Path(path) for path in (*rules.blocklists, *rules.hard_words, *rules.soft_words)]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


def _build(
    workspace: Workspace, datasets: Sequence[Dataset], units: Sequence[Unit], settings: MapSettings, told: Told
) -> Mapping[str, Any]:
    if settings.language_model:
        read_fasttext(settings.language_model)  # a file that is none is told of before anything is read
    read: Counter[str] = Counter()
    lines_cut: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    files: dict[str, Counter[str]] = {}
    rows = [0] * len(units)
    work = MapUnit(str(workspace.path), settings)
    for task, answer in spread(work, [unit.task for unit in units], weight(datasets), told):
        lines_cut.update(answer.get("lines_cut", {}))
        seconds.update(answer["seconds"])
        for piece, counts in zip(units[task["number"]].pieces, answer["of_piece"], strict=True):
            files.setdefault(piece.path, Counter()).update(counts)
        rows[task["number"]] = answer["documents"]
    for counts in files.values():
        counts[EMPTY_FILES] += not counts["records"]
        read.update({name: count for name, count in counts.items() if name != DOCUMENTS})
    poor = _poor(files)
    passed_over = sum((Counter(dataset.passed_over) for dataset in datasets), Counter())
    if not sum(rows):
        raise InputError(
            f"there is no document in these sources ({_said(read) or 'no record at all'}).",
            where=", ".join(next(iter(poor), dataset.name) for dataset in datasets[:1]) or "curate.sources",
            mend=_mend(read),
        )
    _tell(read, poor, passed_over)
    pieces = [
        {
            "dataset": unit.dataset if datasets[unit.dataset].corpus else REFERENCE - unit.dataset,
            "rows": count,
            "pieces": [[piece.name, piece.part] for piece in unit.pieces],
        }
        for unit, count in zip(units, rows, strict=True)
    ]
    workspace.write_json("units.json", {"datasets": [dataset.name for dataset in datasets], "units": pieces})
    return {
        "documents": sum(rows),
        "units": len(units),
        "read": {"records": 0, "truncated": 0, "damaged": 0} | {name: n for name, n in sorted(read.items()) if n},
        "files": {
            "read": len(files),
            "passed_over": dict(sorted(passed_over.items())),
            "poor": [{"file": masked(path), **counts} for path, counts in list(poor.items())[:TOLD_FILES]],
        },
        "lines_cut": dict(sorted(lines_cut.items())),
        "seconds": {name: round(value, 3) for name, value in sorted(seconds.items())},
    }


def _poor(files: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """The files of which less than half of the records gave a document for reasons of their making, and why."""
    made = {}
    for path, counts in files.items():
        why = {name: counts[name] for name in UNREADABLE if counts[name]}
        if why and (2 * sum(why.values()) > counts["records"] or not counts[DOCUMENTS]):
            made[path] = {"records": counts["records"], DOCUMENTS: counts[DOCUMENTS], **why}
    return made


def _tell(read: Counter[str], poor: Mapping[str, Mapping[str, int]], passed_over: Mapping[str, int]) -> None:
    """Say what was not read, or read in another way than it was brought."""
    if passed_over:
        note("passed over: " + ", ".join(f"{count:,} × {kind}" for kind, count in sorted(passed_over.items())))
    if read[EMPTY_FILES]:
        note(f"{read[EMPTY_FILES]:,} files without a record")
    if read[OTHER_ENCODING]:
        note(f"{read[OTHER_ENCODING]:,} documents were not UTF-8 and were decoded as what they look like")
    if read[REPLACED]:
        note(f"{read[REPLACED]:,} documents had bytes that are not text, which became U+FFFD")
    for path, counts in list(poor.items())[:TOLD_FILES]:
        note(f"{masked(path)}: {counts[DOCUMENTS]:,} documents of {counts['records']:,} records ({_said(counts)})")


def _said(counts: Mapping[str, int]) -> str:
    shown = {name: count for name, count in counts.items() if count and name not in ("records", DOCUMENTS)}
    return ", ".join(f"{name} {count:,}" for name, count in sorted(shown.items()))


def _mend(read: Mapping[str, int]) -> str:
    """The mend for the commonest of the reasons."""
    reasons = {name: count for name, count in read.items() if name in MENDS and count}
    return MENDS[max(reasons, key=lambda name: reasons[name])] if reasons else f"Use {KINDS}."


UNREADABLE = ("bad_line", "no_text", "no_text_column", "damaged", "beside_damage", "truncated", "too_long")
MENDS = {
    "no_text_column": "Name the column of the text: curate.text_field=NAME.",
    "no_text": "Name the field of the text: curate.text_field=NAME (its default is text, or content).",
    "bad_line": 'Each line, or the file as a whole, must be JSON: objects with the document in "text".',
    "damaged": "It is not what its name says, or damaged: see that it can be unpacked.",
    "truncated": "It ends in the middle: copy or download it again.",
    "too_long": "Cut it into documents of at most 64 MB, or set curate.text_separator.",
}
"""By the reason why records gave no document."""
