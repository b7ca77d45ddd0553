"""How a server is set up: its address, its name for the model, and the limits within which it answers."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from megalith.errors import InputError
from megalith.input_files import real_path

KEY_VARIABLE = "MEGALITH_API_KEY"


@dataclass(frozen=True)
class Settings:
    """Limits keep one client from taking what all need; past them a request is refused in words."""

    name: str
    """The model, as clients name it."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides addresses in digits and localhost, under which the server may be asked."""
    api_key: str | None = field(default=None, repr=False)
    max_batch: int = 64
    """Sequences in one step of the engine."""
    max_waiting: int = 128
    """Sequences beyond the batch; past them a request is answered with 429."""
    time_limit_seconds: float = 600.0
    """From the head of a request to the end of its answer; past it 504, or an error at the end of a stream."""
    body_limit_bytes: int = 8_000_000
    """Past it 413."""
    grace_seconds: float = 10.0
    """For unfinished requests, when the server is asked to end."""
    stall_seconds: float = 30.0
    """For a client that sends or reads nothing; past it its connection is closed."""

    @property
    def max_choices(self) -> int:
        """Choices (sequences) of all requests that are not answered yet."""
        return self.max_batch + self.max_waiting

    @property
    def all_bodies_limit_bytes(self) -> int:
        """Bytes of all bodies that are being read."""
        return 8 * self.body_limit_bytes


def served_name(directory: Path) -> str:
    """The name of a model by its directory: the last part that is not `train` or `model`."""
    names = [part for part in real_path(directory).parts if part not in ("train", "model")]
    return names[-1].strip("/") or "model"


def read_key(file: Path | None) -> str | None:
    """The API key in a file, else in the environment's MEGALITH_API_KEY; None: there is none.

    Raises InputError for one that no header can hold.
    """
    where = str(file) if file is not None else KEY_VARIABLE
    given = file.read_bytes() if file is not None else os.environ.get(KEY_VARIABLE, "").encode(errors="surrogateescape")
    key = given.decode("latin-1").strip()
    if (file is not None and not key) or not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(
            "this holds no API key: one is of printable ASCII characters without spaces.",
            where=where,
            mend="Write one, such as that of `openssl rand -hex 32`.",
        )
    return key or None
