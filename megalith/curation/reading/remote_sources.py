"""The files of a source that is an address: one file, the objects under a prefix of S3, the files of a snapshot.

`cc:CC-MAIN-2021-04` is a snapshot's WARC files, in the order of its own list. Behind a question mark, joined by `&`:
`wet` (its text in place of its pages), `paths=10:20` (of the list, from the eleventh to the twentieth), `sample=100`
(so many of them, drawn by `seed=…`; a larger sample holds the smaller), `first=5`, and `base=…` (where the snapshots
lie: the default https://data.commoncrawl.org/, s3://commoncrawl/, or a mirror). A snapshot never changes, so none of
its files is asked for before it is read.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl

from fsspec.utils import glob_translate

from megalith.curation.reading.folders import remote_data
from megalith.curation.reading.opening import open_file
from megalith.curation.reading.read import KINDS, reader_of
from megalith.curation.reading.remote import address_of, name_of, open_ranges
from megalith.curation.reading.s3_ranges import objects_under
from megalith.errors import InputError
from megalith.storage import Object, Store
from megalith.storage.addresses import split_address

COMMON_CRAWL = "https://data.commoncrawl.org/"
_LISTED = ("s3:", "gs:", "hf:")
LIST_BYTES = 1 << 28
"""A longer list of paths is none; today's have ten megabytes."""


@dataclass(frozen=True)
class Remote:
    """A file behind an address."""

    address: str
    name: str
    bytes: int | None = None
    """None where it was not asked."""
    tag: str = ""
    """ETag or time of change."""

    def __str__(self) -> str:
        return self.address

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def digest(self) -> str:
        """Stands for the content, which no one has read."""
        return hashlib.sha256(f"{self.address}\n{self.bytes}\n{self.tag}".encode()).hexdigest()


def find_remote(source: Path | str) -> list[Remote]:
    """The files that a source names, which `address_of` says is an address; sizes and tags are asked of their server.

    Raises InputError where it names none or a kind that is not read, ResourceError where the server gives none.
    """
    address = address_of(source) or str(source)
    if address.startswith("cc:"):
        return _snapshot(address)
    name = name_of(address)
    if address.startswith(_LISTED) and any(sign in split_address(address).path for sign in "*["):
        return _matching(address)
    if address.startswith(_LISTED) and (reader_of(name) is None or split_address(address).path.endswith("/")):
        return _under(address)
    if reader_of(name) is None:
        raise InputError("this is not a kind of file that is read.", where=address, mend=f"Use {KINDS}.")
    ranges = open_ranges(address)
    ranges.close()
    return [Remote(address, name, ranges.size, ranges.tag)]


def title_of(address: str) -> str:
    """Return the name of a source: the snapshot's, or the file's."""
    return split_address(address).path if address.startswith("cc:") else name_of(address)


def _under(address: str) -> list[Remote]:
    """The objects under a prefix that are of a kind that is read, as `find_files` takes those of a directory."""
    objects = _objects(address)
    names = set(remote_data([one.name for one in objects])[0])
    files = [one for one in objects if one.name in names]
    if not files:
        raise InputError(
            f"of the {len(objects)} objects under this prefix none is of a kind that is read.",
            where=address,
            mend=f"Use an existing prefix or object of {KINDS}.",
        )
    return [Remote(one.address, one.name, one.bytes, one.tag) for one in files]


def _matching(address: str) -> list[Remote]:
    """The objects whose address fits a pattern: `*` for any characters of a name, `**` for folders, too."""
    path = split_address(address).path
    folder = path[: min(path.index(sign) for sign in "*[" if sign in path)].rpartition("/")[0]
    root = split_address(address)._replace(path=f"{folder}/").geturl()
    pattern = re.compile(glob_translate(path[len(folder) + 1 :]))
    files = [one for one in _objects(root) if pattern.match(one.name)]
    unknown = next((one.name for one in files if reader_of(one.name) is None), None)
    if unknown or not files:
        raise InputError(
            f"it fits {unknown}, which is not a kind of file that is read." if unknown else "no object fits it.",
            where=address,
            mend=f"Use a pattern of {KINDS}." if unknown else "See that the pattern is right.",
        )
    return [Remote(one.address, one.name, one.bytes, one.tag) for one in files]


def _objects(address: str) -> list[Object]:
    """All objects under a prefix: of S3 by Arrow's client, as they are read."""
    return objects_under(address) if address.startswith("s3:") else Store(address).objects()


def _snapshot(source: str) -> list[Remote]:
    parts = split_address(source)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    base, kind = options.pop("base", COMMON_CRAWL), "wet" if "wet" in options else "warc"
    options.pop(kind, None)
    try:
        start, stop = options.pop("paths", ":").split(":")
        chosen = slice(int(start or 0), int(stop) if stop else None)
        sample, first = (int(value) if (value := options.pop(name, None)) else None for name in ("sample", "first"))
        seed = int(options.pop("seed", 0))
    except ValueError:
        options["a number"] = ""
    if options or not parts.path:
        raise InputError(
            f"a snapshot is not named so ({', '.join(options) or 'it has no name'}).",
            where=source,
            mend="Write cc:CC-MAIN-2021-04, and if you like ?wet&paths=0:100&sample=10&seed=1&first=5&base=….",
        )
    with open_file(_join(base, f"crawl-data/{parts.path}/{kind}.paths.gz")) as file:
        try:
            paths = file.read(LIST_BYTES).decode("utf-8", errors="replace").split()[chosen]
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"its list of paths is damaged: {error}.", where=source) from error
    if sample is not None:
        drawn = set(sorted(paths, key=lambda path: hashlib.blake2b(f"{seed} {path}".encode()).digest())[:sample])
        paths = [path for path in paths if path in drawn]
    paths = paths[:first]
    unknown = next((path for path in paths if reader_of(path) is None), None)
    if unknown or not paths:
        raise InputError(
            f"its list of paths holds {f'{unknown!r}, no kind of file that is read' if unknown else 'none of these'}.",
            where=source,
        )
    return [Remote(_join(base, path), path) for path in paths]


def _join(base: str, path: str) -> str:
    parts = split_address(base)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{path.lstrip('/')}").geturl()
