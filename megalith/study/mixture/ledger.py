"""`MIXTURES.csv`: a row for each finished run of a search, by which it goes on wherever it stands.

The rows are enough: a run whose row is there is not made again, whether its model was kept or not.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts import Workspace
from megalith.errors import InputError
from megalith.input_files import read_json, read_text
from megalith.study.cells import CELLS, Row, rows_of
from megalith.study.mixture.design import MixtureCell
from megalith.study.mixture.weights import Floats

TABLE, LOSSES = "MIXTURES.csv", "losses.json"
_FIXED = (
    "cell", "arm", "seed", "tokens", "parameters_with_head", "flops", "steps", "batch", "learning_rate", "train_loss",
    "seconds", "digest",
)  # fmt: skip


def columns(names: Sequence[str]) -> list[str]:
    """The head of the table: the weight of each data set, and the loss on its held-out documents (nats per token)."""
    return [*_FIXED, *(f"weight:{name}" for name in names), *(f"loss:{name}" for name in names)]


def read_rows(directory: Path, names: Sequence[str]) -> list[Row]:
    """The rows of the table. Raises InputError where it is of other data sets or another form."""
    path = directory / TABLE
    if not path.is_file():
        return []
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if list(reader.fieldnames or ()) != columns(names):
        raise InputError(
            "this table is not one of a search over these data sets: its columns differ.",
            where=str(path),
            mend="Use another --output, or remove the file.",
        )
    rows = [{name: value or "" for name, value in row.items()} for row in reader]
    for number, row in enumerate(rows, start=2):
        try:
            finite = all(np.isfinite(float(row[key])) for key in ("flops", "seconds", *columns(names)[len(_FIXED) :]))
        except ValueError:
            finite = False
        if not finite:
            raise InputError("this row has a figure that is not a number.", where=f"{path}, line {number}",
                             mend="Remove the row: it is then run again.")  # fmt: skip
    return rows


def collect(directory: Path, cells: Sequence[MixtureCell]) -> list[Row]:
    """Add the runs that have finished since to the table; the rows of these cells, in their order.

    Rows of other searches over the same data sets stay in it.
    """
    names = cells[0].names
    rows = read_rows(directory, names)
    known = {row["digest"] for row in rows}
    fresh = []
    for cell in cells:
        path = directory / CELLS / cell.name / LOSSES
        if cell.digest not in known and path.is_file():
            told = read_json(path)
            if isinstance(told, dict) and told.get("digest") == cell.digest:
                fresh.append(_row(cell, told))
    if fresh:
        rows += fresh
        with Workspace(directory).file(TABLE) as made, made.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns(names))
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: (row["arm"] != "drawn", row["cell"], row["digest"])))
    return rows_of(cells, rows)


def weights_and_losses(cells: Sequence[MixtureCell], rows: Sequence[Row]) -> tuple[Floats, Floats]:
    """The weights and the losses (cells, data sets) of cells that all have rows, in their order."""
    by_digest = {row["digest"]: row for row in rows}
    own = [by_digest[cell.digest] for cell in cells]
    names = cells[0].names
    weights, losses = (
        np.array([[float(row[f"{kind}:{name}"]) for name in names] for row in own]) for kind in ("weight", "loss")
    )
    return weights, losses


def write_losses(place: Path, digest: str, losses: dict[str, float], facts: dict[str, Any]) -> None:
    """Leave what a finished run found in its directory."""
    told = {"digest": digest, "losses": losses, "train_loss": facts["train_loss"], "seconds": facts["seconds"],
            "steps": facts["steps"]}  # fmt: skip
    with Workspace(place).file(LOSSES) as made:
        made.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _row(cell: MixtureCell, told: dict[str, Any]) -> Row:
    run = cell.run
    values = (
        cell.name, cell.arm, run.seed, run.tokens, run.counted, f"{run.flops:.8g}", told["steps"], run.batch,
        run.learning_rate, f"{told['train_loss']:.6g}", f"{told['seconds']:.4g}", cell.digest, *cell.weights,
        *(f"{told['losses'][name]:.7g}" for name in cell.names),
    )  # fmt: skip
    return {name: str(value) for name, value in zip(columns(cell.names), values, strict=True)}
