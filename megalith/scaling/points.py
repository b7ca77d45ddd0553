"""The runs that a law is fitted on: parameters, tokens and final loss, from a CSV."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from megalith.errors import InputError
from megalith.input_files import read_text

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Finished runs, one entry each."""

    parameters: Floats
    tokens: Floats
    loss: Floats
    """Nats per token."""

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> "Points":
        return Points(self.parameters[chosen], self.tokens[chosen], self.loss[chosen])


def read_points(path: Path) -> Points:
    """Read a CSV with the columns parameters, loss, and tokens or flops (then tokens = flops / 6·parameters).

    Raises InputError where the file, a column or a positive number is missing.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        rows = list(reader)
        columns = reader.fieldnames or []
    except csv.Error as error:
        raise InputError(f"these runs cannot be read: {error}.", where=str(path)) from error
    spent = "tokens" if "tokens" in columns else "flops"
    missing = [name for name in ("parameters", spent, "loss") if name not in columns]
    if missing:
        raise InputError(
            f"the column {missing[0]} is missing.",
            where=str(path),
            mend="The first line names the columns: parameters, loss, and tokens or flops.",
        )
    values = np.array([[_positive(row, name, path, n) for name in ("parameters", spent, "loss")]
                       for n, row in enumerate(rows, start=2)]).reshape(-1, 3)  # fmt: skip
    parameters, spending, loss = values.T
    return Points(parameters, spending if spent == "tokens" else spending / (6 * parameters), loss)


def _positive(row: Mapping[str, str | None], name: str, path: Path, line: int) -> float:
    text = row[name]
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{name} is {text!r}, and a positive number is wanted.", where=f"{path}:{line}")
    return value
