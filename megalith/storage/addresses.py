"""Addresses of storage elsewhere: told from paths, joined, and refused where they hold a secret."""

import re
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from megalith.errors import InputError, UnsupportedError

SCHEMES = ("https", "http", "s3", "gs", "hf")
_FEWEST_PARTS = {"hf": 1}
"""Parts of a path above which nothing can be asked for: a repository has two, the first of them the host's place."""
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}(?=[^/])")


def storage_address(place: Path | str) -> str | None:
    """The place as an address of storage if it is one, with the slash that a Path took off."""
    found = _ADDRESS.match(str(place))
    return f"{found[1]}://{str(place)[found.end() :]}" if found else None


def scheme_of(address: str) -> str:
    """The part before the colon."""
    return address.partition(":")[0]


def join(address: str, name: str) -> str:
    """The address of a file under another address."""
    parts = split_address(address) if scheme_of(address) in ("https", "http") else None
    if parts is None:
        return f"{address.rstrip('/')}/{name}"
    return parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}").geturl()


def parent(address: str) -> tuple[str, str]:
    """The address above one, or nothing where none is, and the last part."""
    parts = split_address(address)
    above, _, name = parts.path.rstrip("/").rpartition("/")
    fewest = 2 if parts.netloc in ("datasets", "spaces") else _FEWEST_PARTS.get(parts.scheme, 0)
    found = parts._replace(path=above).geturl() if above.count("/") >= fewest else ""
    return found, unquote(name) if parts.scheme in ("https", "http") else name


def refuse_secrets(address: str) -> None:
    """Raise InputError for what is no address, or holds a name, a password or a key: it would be written down too."""
    if "@" in split_address(address).netloc:
        raise InputError(
            "this address holds a name or a key before its @.",
            where=address,
            mend="Remove it; credentials come from the environment or the files of the store's own tools.",
        )


def refuse_remote(place: Path | str, *, what: str, mend: str) -> None:
    """Raise UnsupportedError where a directory of this machine is wanted and an address is given."""
    address = storage_address(place)
    if address is not None:
        raise UnsupportedError(what, where=address, mend=mend)


def split_address(address: str) -> SplitResult:
    """The parts of an address. Raises InputError for what has none, such as a bracket that is not closed."""
    try:
        return urlsplit(address)
    except ValueError as error:
        raise InputError(f"this is no address: {error}.", where=address) from error
