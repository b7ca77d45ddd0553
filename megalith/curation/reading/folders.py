"""The files of a source that is a path: a file, a pattern, or what a directory holds of kinds that are read.

What a directory holds besides is told by its kind: readme and licence files, tables of values (CSV) and objects of JSON
beside other data, links to folders. Each is read where it is named itself, or by a pattern.
"""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from megalith.curation.reading.how import AS_IT_IS, How
from megalith.curation.reading.json_records import holds_records
from megalith.curation.reading.read import KINDS, kind_of
from megalith.errors import InputError, UnsupportedError

ABOUT = re.compile(
    r"(readme|licen[cs]e|copying)([-_.].*)?|(copyright|notice|changelog|changes|contributing|authors|citation"
    r"|code[-_]of[-_]conduct|security|requirements([-_].*)?|constraints|robots|manifest|sha\d+sums?|md5sums?)",
    re.IGNORECASE,
)
"""Names, without their ending, of text files that are about the others."""
ABOUT_JSON = re.compile(
    r"(dataset_infos?|state|manifest|config|package(-lock)?|metadata|tokenizer(_config)?|generation(_config)?"
    r"|special_tokens_map|vocab|units|samples|details)\.json",
    re.IGNORECASE,
)
"""Names of files of JSON that are about the others."""
README, TABLE, JSON, FOLDER, OTHER_SNAPSHOT = (
    "readme, licence and the like",
    "table beside other data",
    "JSON about the data",
    "link to a folder",
    "earlier snapshot",
)
"""Why a file of a kind that is read is passed over."""


class Found(NamedTuple):
    """The files of a source, and how many were passed over by their kind."""

    files: list[Path]
    passed_over: Counter[str]


def find_files(source: Path) -> list[Path]:
    """The files that `find` finds."""
    return find(source).files


def find(source: Path, how: How = AS_IT_IS) -> Found:
    """The file itself, those that fit a pattern, or those of a directory that are of a kind that is read, in order.

    Addresses are for `find_remote`. Raises InputError for a source that is missing, of no known kind, or a directory
    with nothing to read.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(source)):
        raise UnsupportedError(
            "this kind of address is not read.",
            where=str(source),
            mend="Use https://, http://, s3://, gs:// or hf://, or download it and name the file.",
        )
    if source.is_dir():
        return _inside(source, how)
    if not source.exists():
        return _matching(source, how)
    return Found([_checked(source)], Counter())


def is_pattern(source: Path | str) -> bool:
    """Whether a name has signs of a pattern."""
    return any(sign in str(source) for sign in "*?[")


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise InputError("this is a pipe or a device, not a regular file.", where=str(file), mend="Name a file.")
    if kind_of(file.name) is None:
        raise InputError("this is not a kind of file that is read.", where=str(file), mend=f"Use {KINDS}.")
    return file


def _matching(pattern: Path, how: How) -> Found:
    """The files that fit a pattern, `**` for folders, and those of folders that do."""
    found = glob.glob(str(pattern), recursive=True) if is_pattern(pattern) else []  # noqa: PTH207 - may begin with /
    places = sorted(map(Path, found))
    if not places:
        what = "no file fits this pattern." if is_pattern(pattern) else "there is no such file or directory."
        raise InputError(what, where=str(pattern))
    files: dict[Path, None] = {}
    passed_over: Counter[str] = Counter()
    for place in places:
        if place.is_file():
            if kind_of(place.name) is not None:
                files[place] = None
            else:
                passed_over[place.suffix or "(none)"] += 1
        elif place.is_dir() and not str(pattern).endswith("**"):
            inside = _collect(place, how)
            files.update(dict.fromkeys(inside.files))
            passed_over += inside.passed_over
    if not files:
        raise _nothing(pattern, passed_over, "that fits this pattern")
    return Found(sorted(files), passed_over)


def _inside(directory: Path, how: How) -> Found:
    found = _collect(directory, how)
    if not found.files:
        raise _nothing(directory, found.passed_over, "in this directory")
    return found


def _nothing(place: Path, passed_over: Counter[str], where: str) -> InputError:
    others = ", ".join(f"{number} × {kind}" for kind, number in passed_over.most_common(5))
    mend = f"Use {KINDS}."
    if any(kind in passed_over for kind in (README, TABLE, JSON)):
        mend = "Name such a file itself, or a pattern that it fits, and it is read."
    return InputError(
        f"nothing {where} is of a kind that is read{f' ({others})' if others else ''}.", where=str(place), mend=mend
    )


def _collect(directory: Path, how: How) -> Found:
    """The files of a directory that are data, and what it holds besides."""
    by_kind: dict[str, list[Path]] = {"data": [], TABLE: [], JSON: []}
    passed_over: Counter[str] = Counter()
    current = _snapshot_of(directory)
    for file in sorted(directory.rglob("*")):
        name = str(file.relative_to(directory))
        if is_hidden(name):
            continue
        if file.is_dir():
            if file.is_symlink():
                passed_over[FOLDER] += 1
            continue
        if not file.is_file():
            continue
        if current is not None and name.startswith("snapshots/") and not name.startswith(f"snapshots/{current}/"):
            passed_over[OTHER_SNAPSHOT] += 1
            continue
        if current is not None and name.startswith(("blobs/", "refs/")):
            continue  # what the snapshots' names lead to
        kind = kind_of(name)
        if kind is None:
            passed_over[file.suffix or "(none)"] += 1
        elif is_about(file.name):
            passed_over[README] += 1
        else:
            _check_name(file, name)
            by_kind[{".csv": TABLE, ".tsv": TABLE, ".json": JSON}.get(kind, "data")].append(file)
    files = by_kind["data"]
    for file in by_kind[JSON]:
        if not ABOUT_JSON.fullmatch(file.name) and holds_records(file, how):
            files.append(file)
        else:
            passed_over[JSON] += 1
    if files and by_kind[TABLE]:
        passed_over[TABLE] += len(by_kind[TABLE])
    else:
        files += by_kind[TABLE]
    return Found(sorted(files), passed_over)


def _snapshot_of(directory: Path) -> str | None:
    """The snapshot that a folder of Hugging Face's cache (`datasets--USER--NAME`) calls its own, by `refs/main`."""
    snapshots = directory / "snapshots"
    if not snapshots.is_dir():
        return None
    named = sorted(place.name for place in snapshots.iterdir() if place.is_dir())
    main = directory / "refs" / "main"
    if main.is_file() and (said := main.read_text(errors="replace").strip()) in named:
        return said
    return max(named, key=lambda name: (snapshots / name).stat().st_mtime) if named else None


def _check_name(file: Path, name: str) -> None:
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in name):  # daft takes names as text
        raise InputError("the name of this file is not UTF-8.", where=str(file), mend="Rename it.")


def is_about(name: str) -> bool:
    """Whether a text file's name says that it is about the others."""
    kind = kind_of(name)
    stem = name[: name.lower().index(kind)] if kind in (".txt", ".md", ".html", ".htm") and kind else ""
    return bool(stem and ABOUT.fullmatch(stem))


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def remote_data(names: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Which of the names under an address are data, none of which is looked into, and how many others there are."""
    seen = [name for name in names if not is_hidden(name)]
    passed_over: Counter[str] = Counter()
    by_kind: dict[str, list[str]] = {"data": [], TABLE: [], JSON: []}
    for name in seen:
        kind, last = kind_of(name), name.rpartition("/")[2]
        if kind is None:
            passed_over["." + last.rpartition(".")[2] if "." in last else "(none)"] += 1
        elif is_about(last):
            passed_over[README] += 1
        elif kind == ".json" and ABOUT_JSON.fullmatch(last):
            passed_over[JSON] += 1
        else:
            by_kind[{".csv": TABLE, ".tsv": TABLE, ".json": JSON}.get(kind, "data")].append(name)
    chosen = next((kind for kind in ("data", JSON, TABLE) if by_kind[kind]), "data")
    passed_over.update({kind: len(held) for kind, held in by_kind.items() if kind != chosen and held})
    return by_kind[chosen], passed_over
