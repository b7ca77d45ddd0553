"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The optional corpora and benchmark sets; a test that asks for them is skipped where they are missing."""
    directory = Path(os.environ.get("MEGALITH_DATA", ROOT.parent / "shared" / "data"))
    if not directory.is_dir():
        pytest.skip(f"the optional data is not at {directory}; name its place in MEGALITH_DATA")
    return directory
