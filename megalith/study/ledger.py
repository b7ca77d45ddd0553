"""`RUNS.csv` and `CORNERS.csv`: a row for each finished cell, by which a study goes on wherever it stands.

The rows are enough: a cell whose row is there is not run again, whether its model was kept or not.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.arithmetic import parameters
from megalith.artifacts import MANIFEST, Workspace, read_manifest
from megalith.errors import InputError
from megalith.input_files import read_text
from megalith.scaling.own_runs import TABLE
from megalith.study.cells import CELLS, Row, rows_of
from megalith.study.design import Cell, Design

CORNERS = "CORNERS.csv"
COLUMNS = (
    "cell", "role", "budget", "parameters_with_head", "non_embedding_parameters", "parameters", "tokens",
    "unique_tokens", "flops", "validation_loss", "train_loss", "decay_tokens", "learning_rate", "batch", "layers",
    "hidden", "seed", "steps", "seconds", "flops_per_second", "digest",
)  # fmt: skip


def read_rows(directory: Path) -> list[Row]:
    """The rows of both tables. Raises InputError where one is of another form."""
    rows = []
    for name in (TABLE, CORNERS):
        path = directory / name
        if not path.is_file():
            continue
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(
                "this table is not one of a scaling study: its columns differ.",
                where=str(path),
                mend="Use another --output, or remove the file.",
            )
        rows += [{name: value or "" for name, value in row.items()} for row in reader]
    return rows


def collect(directory: Path, plan: Design) -> list[Row]:
    """Add the cells that have finished since to the tables; the rows of the design's cells, in its order.

    Rows of other designs stay in the tables, whose order follows from what is in them alone.
    """
    rows = read_rows(directory)
    known = {row["digest"] for row in rows}
    fresh = []
    for cell in plan.cells:
        path = directory / CELLS / cell.name / "train"
        if cell.digest not in known and (path / MANIFEST).is_file():
            row = _row(cell, read_manifest(path).facts, directory)
            if row is not None:
                fresh.append(row)
    if fresh:
        rows += fresh
        _write(directory / TABLE, [row for row in rows if row["role"] != "corner"])
        _write(directory / CORNERS, [row for row in rows if row["role"] == "corner"])
    return rows_of(plan.cells, rows)


def _row(cell: Cell, facts: Mapping[str, Any], directory: Path) -> Row | None:
    """None for an artifact of another cell of that name, which `megalith train` would set aside or refuse."""
    if facts.get("tokens") != cell.tokens:
        return None
    count = parameters(cell.model)
    shards = read_manifest(directory / "tokenize").facts["tokens"]["train"]
    values = (
        cell.name, cell.role, f"{cell.budget:g}", cell.counted, count.non_embedding, count.total, cell.tokens,
        min(cell.tokens, shards), f"{cell.flops:.8g}", facts["validation_loss"], facts["train_loss"], cell.tokens,
        cell.learning_rate, cell.batch, cell.model.layers, cell.model.hidden, cell.seed, facts["steps"],
        f"{facts['seconds']:.4g}", f"{facts['flops_per_second'] or 0:.4g}", cell.digest,
    )  # fmt: skip
    return {name: str(value) for name, value in zip(COLUMNS, values, strict=True)}


def _write(path: Path, rows: Sequence[Row]) -> None:
    with Workspace(path.parent).file(path.name) as made, made.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(sorted(rows, key=_place))


def _place(row: Mapping[str, str]) -> tuple[float, float, str, str]:
    """A row's place in its table, whichever run ended first."""
    return float(row["budget"]), float(row["flops"]), row["cell"], row["digest"]
