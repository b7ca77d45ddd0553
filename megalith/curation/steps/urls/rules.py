"""Which documents are left out for their URL: blocked domains and addresses, words, hosts without a name.

The lists are the user's. None comes with Megalith: the well-known ones (UT1 of Toulouse, LDNOOBW) have licences and
opinions of their own. A domain blocks what is under it label by label (`example.com` blocks `a.example.com`, not
`badexample.com`); an address blocks what is below it in its path. Nothing is fetched, and pages are not looked at.
"""

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.steps.urls import kernels
from megalith.errors import InputError
from megalith.input_files import real_path
from megalith.ngrams.words import utf8
from megalith.recipe.filters import UrlConfig

Array = npt.NDArray[Any]

DOMAINS, ADDRESSES = "domains", "urls"
"""A UT1 folder's files."""


@dataclass(frozen=True)
class Table:
    """A set of hashes with a value each."""

    keys: Array
    """uint64, a power of two of them; 0 is an empty place."""
    values: Array
    """int32."""


@dataclass(frozen=True)
class UrlRules:
    """Lists that have been read."""

    names: tuple[str, ...]
    """Names of the blocklists: of a file without its endings, or of a UT1 folder."""
    domains: Table
    """Values are places in `names`."""
    addresses: Table
    words: Table
    """Values are the kernel's HARD_WORD and SOFT_WORDS."""
    minimum_soft_words: int
    drop_ip_hosts: bool


def read_rules(config: UrlConfig) -> UrlRules | None:
    """The rules of a recipe; None where it has none.

    Raises InputError for a list that is missing, damaged, empty, or of another form.
    """
    if not (config.blocklists or config.hard_words or config.soft_words or config.drop_ip_hosts):
        return None
    names: list[str] = []
    domains: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for name, files in _lists(config.blocklists):
        if name not in names:
            names.append(name)
        usable = False
        for line in _entries(files):
            host, address = normalise(_of_hosts_file(line))
            host = host.removeprefix("*.")
            into, key = (addresses, address) if "/" in address else (domains, host)
            if _HOST.fullmatch(host):
                into.setdefault(key, names.index(name))
                usable = True
        if not usable:
            raise InputError(
                "no line of this list is a domain or an address.",
                where=str(files[0]),
                mend="Write one a line, as example.com or example.com/path.",
            )
    hard = {word for path in config.hard_words for word in _words(Path(path))}
    soft = {word for path in config.soft_words for word in _words(Path(path))} - hard
    words = dict.fromkeys(sorted(hard), kernels.HARD_WORD) | dict.fromkeys(sorted(soft), kernels.SOFT_WORDS)
    return UrlRules(
        names=tuple(names),
        domains=_table(domains, backwards=True),
        addresses=_table(addresses),
        words=_table(words),
        minimum_soft_words=config.minimum_soft_words,
        drop_ip_hosts=config.drop_ip_hosts,
    )


def reasons(urls: pa.Array, rules: UrlRules) -> pa.Array:
    """Why each URL is left out, as strings; null for what is kept, as a null or empty URL is.

    `domain in NAME` or `url in NAME` of the blocklist, `hard word in url`, `soft words in url`, `ip host`.
    """
    verdicts, lists = _judge(urls.fill_null(""), rules)
    for place in np.flatnonzero(verdicts == kernels.FOREIGN):
        again = _judge(pa.array([_in_ascii(urls[int(place)].as_py())], pa.large_string()), rules)
        verdicts[place], lists[place] = again[0][0], again[1][0]
    number = len(rules.names)
    codes = np.select(
        [verdicts == kernel for kernel in (kernels.DOMAIN, kernels.ADDRESS, *_FIXED)],
        [lists, number + lists, *(np.full(len(lists), 2 * number + place) for place in range(len(_FIXED)))],
        -1,
    ).astype(np.int32)
    said = [f"domain in {name}" for name in rules.names] + [f"url in {name}" for name in rules.names]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array([*said, *_FIXED.values()], pa.string())).cast(pa.string())


def normalise(url: str) -> tuple[str, str]:
    """The host, and the address: without scheme, user, port, `www.` and fragment, the host in lower-case ASCII."""
    if _PLAIN_DOMAIN.fullmatch(url):
        return url, url.removeprefix("www.")
    rest = url.strip()
    head, found, behind = rest.partition("://")
    rest = behind if found and "/" not in head and "?" not in head else rest.removeprefix("//")
    rest = rest.partition("#")[0].replace("\\", "/")
    end = min((place for place in map(rest.find, "/?") if place >= 0), default=len(rest))
    authority, path = rest[:end].rpartition("@")[2], rest[end:]
    host = authority if authority.startswith("[") else authority.partition(":")[0]
    host = _host_in_ascii(unquote(host).strip(".").lower())
    return host, host.removeprefix("www.") + path.rstrip("/")


MOST_HOST_CHARACTERS = 1000
"""A name has 253; IDNA takes time that grows with the square of some."""
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+|\[[0-9a-f:.]+\]")
_PLAIN_DOMAIN = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_FIXED = {kernels.HARD_WORD: "hard word in url", kernels.SOFT_WORDS: "soft words in url", kernels.IP_HOST: "ip host"}


def _judge(urls: pa.Array, rules: UrlRules) -> tuple[Array, Array]:
    data, offsets = utf8(urls)
    verdicts = np.zeros(len(urls), np.int32)
    lists = np.zeros(len(urls), np.int32)
    kernels.judge(
        data,
        offsets,
        rules.domains.keys,
        rules.domains.values,
        rules.addresses.keys,
        rules.addresses.values,
        rules.words.keys,
        rules.words.values,
        rules.minimum_soft_words,
        rules.drop_ip_hosts,
        verdicts,
        lists,
    )
    return verdicts, lists


def _table(entries: dict[str, int], backwards: bool = False) -> Table:
    data, offsets = utf8(pa.array(list(entries), pa.large_string()))
    hashes = (kernels.hash_backwards if backwards else kernels.hash_forwards)(data, offsets)
    room = 1 << (2 * len(entries)).bit_length() if entries else 1
    keys, values = np.zeros(room, np.uint64), np.zeros(room, np.int32)
    kernels.fill(hashes, np.array(list(entries.values()), np.int32), keys, values)
    return Table(keys, values)


def _lists(paths: Sequence[str]) -> Iterator[tuple[str, list[Path]]]:
    """Each list's name with its files; a folder is one UT1 category, or holds some."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path.name.partition(".")[0], [path]
            continue
        found = [(folder, _of_category(folder)) for folder in (path, *sorted(filter(Path.is_dir, path.iterdir())))]
        if not any(files for _, files in found):
            raise InputError(
                "there is no list in this directory.",
                where=str(path),
                mend="Name a file, or a folder with files called domains or urls.",
            )
        yield from ((real_path(folder).name, files) for folder, files in found if files)


def _of_category(folder: Path) -> list[Path]:
    names = (DOMAINS, f"{DOMAINS}.gz", ADDRESSES, f"{ADDRESSES}.gz")
    return [folder / name for name in names if (folder / name).is_file()]


def _entries(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        yield from _lines(file)


def _of_hosts_file(line: str) -> str:
    """The name in a line like `0.0.0.0 bad.com # why`; of another line all."""
    address, _, name = line.partition(" ")
    return name.partition("#")[0].strip() if address in ("0.0.0.0", "127.0.0.1", "::", "::1") and name else line


def _words(path: Path) -> Iterator[str]:
    return (word for line in _lines(path) for word in line.lower().split())


def _lines(path: Path) -> Iterator[str]:
    """The lines that say something; `#` begins a remark. Raises InputError where there are none."""
    some = False
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace") as file:
            for line in file:
                text = line.strip()
                if text and not text.startswith("#"):
                    some = True
                    yield text
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"this list cannot be read: {why}.", where=str(path)) from error
    if not some:
        raise InputError("this list is empty.", where=str(path))


def _in_ascii(url: str) -> str:
    """The URL with its host in ASCII; what is no host at all has its odd characters taken out."""
    host, _ = normalise(url)
    rest = url.partition("://")[2] or url
    end = min((place for place in map(rest.find, "/?#") if place >= 0), default=len(rest))
    return f"//{host}{rest[end:]}"


def _host_in_ascii(host: str) -> str:
    if host.isascii() and "%" not in host:
        return host
    if len(host) <= MOST_HOST_CHARACTERS:
        with contextlib.suppress(UnicodeError):
            return host.encode("idna").decode()
    return host.encode("ascii", "ignore").decode().replace("%", "")
