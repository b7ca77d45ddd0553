"""Official files below the user's directory: found in their folder or flat, plain or gzipped, and read whole."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from megalith.audit.instrument import Skipped
from megalith.errors import InputError
from megalith.inference import keyed_hash
from megalith.input_files import MOST_BYTES, read_bytes

Row = TypeVar("Row")


def find(data: Path | None, folder: str, names: Sequence[str]) -> list[Path] | Skipped:
    """Return the official files `names`, plain or .gz, below `data` in `folder` or flat; Skipped if any is missing."""
    if data is None:
        return Skipped(f"{folder}/{names[0]} is needed as it is published: set audit.data to the directory above it.")
    found = []
    for name in names:
        places = [data / folder / name, data / folder / f"{name}.gz", data / name, data / f"{name}.gz"]
        standing = next((place for place in places if place.is_file()), None)
        if standing is None:
            return Skipped(f"{folder}/{name} is missing below {data}.")
        found.append(standing)
    return found


def read_official(path: Path) -> str:
    """Return the text of a UTF-8 file, plain or gzipped. Raises InputError where it cannot be read."""
    content = read_bytes(path)
    if path.suffix == ".gz":
        try:
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"this file is not whole: {error}.", where=str(path), mend="Fetch it again.") from error
        if len(content) > MOST_BYTES:
            raise InputError(f"this file holds more than {MOST_BYTES:,} bytes.", where=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("this file is not UTF-8.", where=str(path), mend="Fetch it again.") from error


def read_table(path: Path, columns: Sequence[str], *, tabs: bool = False) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place and the fields of each row of a table with a header, comma- or tab-separated.

    Raises InputError where a column is missing, in the header or a row, and where the table has no rows.
    """
    text = io.StringIO(read_official(path), newline="")
    reader = csv.DictReader(text, dialect=csv.excel_tab, quoting=csv.QUOTE_NONE) if tabs else csv.DictReader(text)
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"the header lacks {', '.join(missing)}.", where=f"{path}, line 1", mend="Use the file as published."
        )
    number = 0
    for number, row in enumerate(reader, start=1):
        where = f"{path}, row {number}"
        absent = [name for name in columns if row[name] is None]
        if absent:
            raise InputError(f"this row lacks {', '.join(absent)}.", where=where, mend="Use the file as published.")
        yield where, row
    if number == 0:
        raise InputError("this table has no rows.", where=str(path), mend="Use the file as published.")


def sample(rows: Sequence[Row], most: int, seed: int, group: Callable[[Row], str]) -> list[Row]:
    """Return at most `most` rows, in their order: whole groups, drawn by a hash of their names (at least one)."""
    if len(rows) <= most:
        return list(rows)
    members: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        members.setdefault(group(row), []).append(place)
    kept: list[int] = []
    for name in sorted(members, key=lambda name: (keyed_hash(seed, name), name)):
        if kept and len(kept) + len(members[name]) > most:
            break
        kept += members[name]
    return [rows[place] for place in sorted(kept)]
