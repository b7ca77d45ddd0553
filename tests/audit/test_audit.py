"""The stage: what it leaves, and that it leaves the same twice."""

import json
from pathlib import Path

import pytest

from megalith.audit import audit
from megalith.audit.association import summary
from megalith.errors import InputError
from megalith.recipe import AuditConfig, ModelConfig, Recipe, TokenizeConfig
from tests.inference.models import VOCAB_SIZE


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="small",
        about="For tests.",
        tokenize=TokenizeConfig(vocab_size=VOCAB_SIZE),
        model=ModelConfig(vocab_size=VOCAB_SIZE, num_layers=2, hidden_size=16, num_heads=2),
        train={"tokens": 1000},  # type: ignore[arg-type]
        audit=AuditConfig(hans_examples=5, shots=1),
    )


def test_the_facts_are_those_of_the_items(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    made = audit(recipe, tmp_path / "audit", model_directory)
    hans, association = made.facts["hans"], made.facts["association"]
    items = [json.loads(line) for line in (made.path / "items" / "hans.jsonl").open()]
    assert hans["examples"] == len(items) == 30
    assert hans["accuracy"] == sum(item["correct"] for item in items) / 30
    assert len(hans["cells"]) == 6 and all(cell["documents"] == 5 for cell in hans["cells"])
    results = [json.loads(line) for line in (made.path / "items" / "association.jsonl").open()]
    assert association == summary(results)
    assert 3 * (association["occupations"] + association["neutral_subjects"]) == len(results)
    json.dumps(made.facts, allow_nan=False)


def test_the_same_audit_is_the_same_bytes_and_another_model_is_audited_anew(
    recipe: Recipe, tmp_path: Path, model_directory: Path
) -> None:
    one = audit(recipe, tmp_path / "one", model_directory)
    two = audit(recipe, tmp_path / "two", model_directory)
    assert one.digest == two.digest
    assert audit(recipe, tmp_path / "one", model_directory).reused
    assert not audit(recipe.model_copy(update={"seed": 7}), tmp_path / "one", model_directory).reused


def test_a_directory_without_a_model_is_refused_and_nothing_is_left(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this is not a model"):
        audit(recipe, tmp_path / "audit", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
