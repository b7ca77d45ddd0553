"""Artifacts in stores elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

from megalith.verbs.arguments import Place

if TYPE_CHECKING:
    from megalith.storage import Pushed


def push(directory: Place, address: str) -> "list[Pushed]":
    """Put an artifact, or each artifact of an expedition, into `s3://` or `gs://`; its manifest comes last.

    Raises InputError where one is damaged or another one stands there, ResourceError where the store cannot be written.
    """
    from megalith.storage import push as put

    return put(Path(directory), address)
