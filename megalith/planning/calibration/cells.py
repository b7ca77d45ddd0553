"""Lines of a table of measurements: figures that say where they stand when they are none."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.input_files import read_text


class NotModelledError(Exception):
    """Why a row cannot be predicted."""


class Cells:
    """One line of a table, with errors that say where."""

    def __init__(self, cells: Mapping[str, str | None], where: str) -> None:
        self.cells = cells
        self.where = where

    def text(self, column: str) -> str:
        return (self.cells.get(column) or "").strip()

    def number(self, column: str) -> float | None:
        """A positive number, or None where the cell is empty."""
        text = self.text(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise self.wrong(column, "a positive number is wanted")
        return value

    def count(self, column: str) -> int | None:
        """A whole positive number, or None where the cell is empty."""
        value = self.number(column)
        if value is not None and value != int(value):
            raise self.wrong(column, "a whole number is wanted")
        return None if value is None else int(value)

    def needed(self, column: str) -> int:
        value = self.count(column)
        if value is None:
            raise NotModelledError(f"{column} is not published")
        return value

    def layout(self, column: str) -> int:
        """An axis of the layout: 1 where the table has no such column, and needed where it has."""
        return self.needed(column) if column in self.cells else 1

    def choice(self, column: str, choices: tuple[str, ...], default: str) -> str:
        text = self.text(column).lower() or default
        if text not in choices:
            raise self.wrong(column, f"one of {', '.join(choices)} is wanted")
        return text

    def wrong(self, column: str, wanted: str) -> InputError:
        return InputError(f"{column} is {self.text(column)!r}, and {wanted}.", where=f"{self.where}, column {column}")

    @property
    def not_stated(self) -> str:
        """Columns that the maker of the table filled in, by the notes: "mbs not stated; assumed 1"."""
        found = re.search(r"((?:vpp|mbs)[^;]*) not stated", self.text("notes").lower())
        return found.group(1) if found else ""

    @property
    def words(self) -> str:
        return " ".join(self.text(name) for name in ("dataset", "model", "source", "notes", "gpu")).lower()


def lines(path: Path, columns: Sequence[str]) -> list[tuple[int, Mapping[str, str | None]]]:
    """The lines of a table, each with its number. Raises InputError for a file that is not one, or lacks `columns`."""
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
        found: list[tuple[int, Mapping[str, str | None]]] = [(reader.line_num, cells) for cells in reader]
        given = reader.fieldnames or []
    except csv.Error as error:
        raise InputError(f"this table cannot be read: {error}.", where=str(path)) from error
    missing = [name for name in columns if name not in given]
    if missing:
        raise InputError(
            f"the column {missing[0]} is missing.",
            where=str(path),
            mend=f"The first line names the columns; {', '.join(columns)} must be among them.",
        )
    return found
