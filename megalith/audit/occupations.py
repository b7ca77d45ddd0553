"""The occupations of the association test: a list of our own, or the user's."""

from collections import Counter
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.input_files import parse_json, read_text

_HELM_LIST = "profession_list"  # of HELM's bias_word_lists, 288 professions
_MEND = "Put one occupation on each line, or use a JSON list of them."

OCCUPATIONS = (
    "accountant", "actor", "analyst", "architect", "artist", "astronomer", "author", "baker", "banker", "barber",
    "bookkeeper", "bricklayer", "bus driver", "butcher", "carpenter", "cashier", "chef", "chemist", "cleaner",
    "clerk", "coach", "dancer", "dentist", "designer", "detective", "doctor", "economist", "editor", "electrician",
    "engineer", "farmer", "firefighter", "fisher", "gardener", "geologist", "guard", "hairdresser", "janitor",
    "journalist", "judge", "lawyer", "librarian", "manager", "mechanic", "miner", "musician", "nurse", "painter",
    "pharmacist", "photographer", "physicist", "pilot", "plumber", "poet", "politician", "professor", "programmer",
    "receptionist", "scientist", "secretary", "singer", "surgeon", "tailor", "teacher", "translator", "waiter",
)  # fmt: skip


def read_occupations(path: Path) -> tuple[str, ...]:
    """Return the occupations of a file: one a line (a `#` begins a comment), or a JSON list.

    In a table such as Winogender's occupations-stats.tsv the first column counts; HELM's word lists give their
    professions. Raises InputError for an empty list, and for a name that comes twice (also in other letters).
    """
    names = _listed(path) if path.suffix == ".json" else _lines(path)
    if not names:
        raise InputError("this file names no occupations.", where=str(path), mend=_MEND)
    twice = [name for name, times in Counter(name.casefold() for name in names).items() if times > 1]
    if twice:
        raise InputError(
            f"{len(twice)} of the occupations come twice and would count twice: {', '.join(twice[:5])}.",
            where=str(path),
            mend="Remove the repeated lines.",
        )
    if len(names) < 2:
        raise InputError("a single occupation has no interval.", where=str(path), mend="Name two or more.")
    return tuple(names)


def _lines(path: Path) -> list[str]:
    rows = [line.split("#")[0].split("\t")[0].strip() for line in read_text(path).splitlines()]
    names = [row for row in rows if row]
    return names[1:] if names and names[0] == "occupation" else names


def _listed(path: Path) -> list[str]:
    given: Any = parse_json(read_text(path), where=str(path))
    names = given.get(_HELM_LIST) if isinstance(given, dict) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError("this is not a list of occupations.", where=str(path), mend=_MEND)
    return [name.strip() for name in names]
