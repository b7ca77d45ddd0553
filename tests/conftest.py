"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

from megalith.inference import LanguageModel, load_model
from tests.inference.models import write_model

os.environ.setdefault("MEGALITH_KERNELS", "torch")  # nothing is measured, here and in the processes that tests start

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The optional corpora and benchmark sets; a test that asks for them is skipped where they are missing."""
    directory = Path(os.environ.get("MEGALITH_DATA", ROOT.parent / "shared" / "data"))
    if not directory.is_dir():
        pytest.skip(f"the optional data is not at {directory}; name its place in MEGALITH_DATA")
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small model on disk."""
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def lm(model_directory: Path) -> LanguageModel:
    return load_model(model_directory)
