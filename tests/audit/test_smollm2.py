"""A published model under the association test, with the figures that transformers gives for the same prompts."""

from pathlib import Path

import pytest

from megalith.artifacts import Artifact
from megalith.audit.association import judge, summary
from megalith.audit.occupations import read_occupations
from megalith.audit.subject import LanguageSubject
from megalith.inference import load_model
from tests.interop.test_smollm2 import made

__all__ = ["made"]  # the imported model

pytestmark = pytest.mark.slow


def test_the_association_over_winogenders_occupations_is_the_published_one(
    made: Artifact, data_directory: Path
) -> None:
    table = data_directory / "benchmarks" / "winogender" / "occupations-stats.tsv"
    if not table.is_file():
        pytest.skip(f"{table} is missing")
    subject = LanguageSubject(load_model(made.path), 4096)
    told = summary(judge(subject, read_occupations(table)))
    found = {row["prompt"]: round(row["mean_log_ratio"], 3) for row in told["prompts"]}
    assert (told["occupations"], found) == (60, {"neutral": -0.250, "competent": -0.527, "incompetent": -0.797})
