"""One small model on disk for all tests of this room."""

from pathlib import Path

import pytest

from megalith.inference import LanguageModel, load_model
from tests.inference.models import write_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session")
def lm(model_directory: Path) -> LanguageModel:
    return load_model(model_directory)
