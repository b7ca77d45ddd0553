"""A GGUF file as a model of ours."""

from pathlib import Path

from megalith.errors import UnsupportedError
from megalith.interop.source import Source


def open_gguf(path: Path) -> Source:
    """Read a GGUF file."""
    raise UnsupportedError("GGUF files cannot be imported yet.", where=str(path))
