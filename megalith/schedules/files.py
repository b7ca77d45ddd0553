"""A schedule as a CSV file, one row a rank: the format that torch.distributed.pipelining reads and writes."""

import csv
import io
from pathlib import Path

from megalith.errors import InputError
from megalith.input_files import read_text
from megalith.schedules.actions import Action, Lists, parse


def read_csv(path: Path, pipeline: int) -> Lists:
    """The lists in a file of `pipeline` rows. Blank cells (idle time) and blank rows are passed over.

    Whether the lists are a schedule, `check` says. Raises InputError where the file cannot be read, a cell holds no
    action, or the rows are fewer or more.
    """
    lists = []
    try:
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        for cells in reader:
            actions = tuple(_action(cell, path, reader.line_num) for cell in cells if cell.strip())
            if actions:
                lists.append(actions)
    except csv.Error as error:
        raise InputError(f"this schedule cannot be read: {error}.", where=str(path)) from error
    if len(lists) != pipeline:
        raise InputError(
            f"the number of rows with actions is {len(lists)}, and parallel.pipeline is {pipeline}.",
            where=str(path),
            mend="Use one row for each rank, rank 0 first.",
        )
    return tuple(lists)


def write_csv(lists: Lists, path: Path) -> None:
    """Write one row a rank, without idle cells."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lists)


def _action(cell: str, path: Path, line: int) -> Action:
    try:
        return parse(cell)
    except ValueError as error:
        raise InputError(
            f"{error}.",
            where=f"{path}:{line}",
            mend="Write stage, operation, micro-batch, such as 0F3: F forward, B backward, or I and W, its input and "
            "weight gradients. Sends, receives and the rest follow from these.",
        ) from error
