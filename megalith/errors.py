"""The few kinds of error that Megalith raises on purpose.

Each says what is wrong, where it was said, and what would be right; `cli.py` prints it as one paragraph and exits
with code 2. Anything else that escapes is a bug in Megalith.
"""

from collections.abc import Mapping

from megalith.secrets import masked


class MegalithError(Exception):
    """The fault, where it was said, and the mend; secrets in addresses are masked.

    `leaves_whole` says whether what a stage had finished before this error is worth keeping for the next attempt.
    """

    leaves_whole = True

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        what, where, mend = masked(what), masked(where), masked(mend)
        super().__init__(what, where, mend)
        self.what = what
        self.where = where
        self.mend = mend

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        mend = f" {self.mend}" if self.mend else ""
        return f"{place}{self.what}{mend}"


class RecipeError(MegalithError):
    """A recipe or an override says something that cannot be."""

    leaves_whole = False


class InputError(MegalithError):
    """A file or directory that the user named is missing, empty or damaged."""

    leaves_whole = False


class BusyError(MegalithError):
    """Another run holds the directory."""


class ResourceError(MegalithError):
    """The machine has run out of disk, memory or processes."""


class UnsupportedError(MegalithError):
    """A request that Megalith understands and cannot yet serve."""

    leaves_whole = False


def error_to_json(error: MegalithError) -> dict[str, str | None]:
    """The error as one process hands it to another."""
    return {"kind": type(error).__name__, "what": error.what, "where": error.where, "mend": error.mend}


def error_from_json(told: Mapping[str, str | None]) -> MegalithError:
    """The error that `error_to_json` has written."""
    kinds = {kind.__name__: kind for kind in MegalithError.__subclasses__()}
    return kinds.get(told["kind"] or "", MegalithError)(told["what"] or "", where=told["where"], mend=told["mend"])
