"""The stage: what it leaves, and that it leaves the same twice."""

import json
from pathlib import Path

import pytest

from megalith.audit import audit
from megalith.audit.association import summary
from megalith.errors import InputError, RecipeError
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


def with_audit(recipe: Recipe, **settings: object) -> Recipe:
    return recipe.model_copy(update={"audit": AuditConfig.model_validate(settings)})


def test_an_unknown_task_is_refused_where_it_was_named(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    asked = with_audit(recipe, instruments=("in_context",), in_context_tasks=("hans_generate",))
    with pytest.raises(RecipeError, match="hans_generated") as raised:
        audit(asked, tmp_path / "audit", model_directory)
    assert raised.value.where == "audit.in_context_tasks"


def test_instruments_without_their_files_are_skipped_with_the_reason(
    recipe: Recipe, tmp_path: Path, model_directory: Path
) -> None:
    (tmp_path / "data").mkdir()
    names = ("winogender", "bbq", "in_context")
    asked = with_audit(recipe, instruments=names, data=str(tmp_path / "data"), in_context_tasks=("boolq",))
    facts = audit(asked, tmp_path / "audit", model_directory).facts
    for name, file in zip(names, ("all_sentences.tsv", "Age.jsonl", "boolq"), strict=True):
        assert file in facts[name]["skipped"].lower() or file in facts[name]["skipped"]
    with pytest.raises(InputError, match="this directory is missing"):
        audit(with_audit(recipe, instruments=names, data=str(tmp_path / "no")), tmp_path / "other", model_directory)


def test_a_changed_file_of_the_users_is_audited_anew(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("nurse\npilot\n")
    asked = with_audit(recipe, instruments=("association",), occupations=str(names))
    assert audit(asked, tmp_path / "audit", model_directory).facts["association"]["occupations"] == 2
    assert audit(asked, tmp_path / "audit", model_directory).reused
    names.write_text("nurse\npilot\nbaker\n")
    assert audit(asked, tmp_path / "audit", model_directory).facts["association"]["occupations"] == 3
