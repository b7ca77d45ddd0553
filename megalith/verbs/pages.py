"""The report, the dataset card and the digests of what stands on disk."""

from collections.abc import Mapping
from pathlib import Path

from megalith.artifacts import Verified
from megalith.artifacts import verify as verify_artifacts
from megalith.verbs.arguments import Place, path


def write_report(directory: Place) -> Path:
    """Write the page of a finished expedition again and return its path: the verb `report`."""
    from megalith.report import write_report as write

    return write(Path(directory))


def write_card(directory: Place, *, licence: Mapping[str, str] | None = None, output: Place | None = None) -> Path:
    """Write the dataset card of a `curate` artifact and return its folder: the verb `card`.

    `licence` is by data set. `output` is the card's folder, DIRECTORY-card by default.
    """
    from megalith.report import write_card as write

    return write(Path(directory), licence, path(output))


def verify(directory: Place) -> list[Verified]:
    """Compare every file of an artifact or an expedition with its digest."""
    return list(verify_artifacts(Path(directory)))
