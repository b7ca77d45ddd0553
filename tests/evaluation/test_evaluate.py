"""The stage: what it leaves, what it reuses, and what it says of bad input."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError
from megalith.evaluation import evaluate
from megalith.evaluation import scored as tasks
from megalith.inference import LanguageModel
from megalith.recipe import EvaluateConfig, ModelConfig, Recipe, TokenizeConfig
from megalith.tokens import write_shards
from tests.inference.models import PROSE, VOCAB_SIZE

WORDS = [{"id": f"w{at}", "document": f"d{at}", "context": "The nurse was", "target": " a"} for at in range(8)]
CHOICES = [
    {"id": f"c{at}", "document": f"d{at}", "context": "It is", "choices": [" a", " b", " c", " d"], "answer": at % 4}
    for at in range(8)
]
ROWS = [
    *[("perplexity", 0, metric) for metric in ("token_perplexity", "byte_perplexity", "bits_per_byte")],
    *[("last_word", shots, metric) for shots in (0, 2) for metric in ("accuracy", "perplexity")],
    *[("continuation", shots, metric) for shots in (0, 2) for metric in ("accuracy", "accuracy_per_byte")],
    *[("arithmetic", shots, "exact_match") for shots in (0, 2)],
]


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="small",
        about="For tests.",
        tokenize=TokenizeConfig(vocab_size=VOCAB_SIZE),
        model=ModelConfig(vocab_size=VOCAB_SIZE, num_layers=2, hidden_size=16, num_heads=2, sequence_length=32),
        train={"tokens": 1000},  # type: ignore[arg-type]
        evaluate=EvaluateConfig(shots=(0, 2), items=6, batch_tokens=512),
        audit={"generated_tokens": 4},  # type: ignore[arg-type]
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Artifact:
    def build(workspace: Workspace) -> dict[str, object]:
        with workspace.file("validation/part-00000.parquet") as path:
            pq.write_table(pa.table({"id": ["a", "b", "c"], "text": [text * 2 for text in PROSE]}), path)
        for name, items in (("last_word", WORDS), ("continuation", CHOICES)):
            with workspace.file(f"tasks/{name}.jsonl") as path:
                path.write_text("".join(json.dumps(item) + "\n" for item in items))
        return {}

    return produce(tmp_path / "curate", stage="curate", settings={}, inputs={}, seed=0, build=build)


def test_every_task_has_its_rows(recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact) -> None:
    made = evaluate(recipe, tmp_path / "evaluate", model_directory, None, corpus)
    rows = made.facts["tasks"]
    assert [(row["name"], row["shots"], row["metric"]) for row in rows] == ROWS
    assert all(row["documents"] == (3 if row["name"] == "perplexity" else 6) for row in rows)
    for row in rows:
        low, high = row["interval"]
        assert low <= row["score"] <= high and row["standard_error"] >= 0
    (positions,) = [run["predicted_positions"] for run in made.facts["runs"] if run["name"] == "continuation"][:1]
    assert sum(positions) == 6
    assert made.facts["truncated"] == sum(run["truncated"] for run in made.facts["runs"]) > 0
    samples = json.loads((made.path / "samples.json").read_text())
    assert all(set(sample) == {"prompt", "text"} for sample in samples)


def test_the_same_evaluation_is_the_same_bytes(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact
) -> None:
    one = evaluate(recipe, tmp_path / "one", model_directory, None, corpus)
    two = evaluate(recipe, tmp_path / "two", model_directory, None, corpus)
    assert not one.reused and not two.reused
    assert one.digest == two.digest
    assert evaluate(recipe, tmp_path / "one", model_directory, None, corpus).reused


def test_shots_do_not_depend_on_how_many_items_are_judged(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact
) -> None:
    fewer = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"items": 2, "shots": (2,)})})
    whole, part = (
        {line["id"]: line["shots"] for line in map(json.loads, (made.path / "items/continuation-2.jsonl").open())}
        for made in (
            evaluate(recipe, tmp_path / "whole", model_directory, None, corpus),
            evaluate(fewer, tmp_path / "part", model_directory, None, corpus),
        )
    )
    assert len(part) == 2 and part.items() <= whole.items()


def test_a_broken_evaluation_goes_on_where_it_was(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(recipe, tmp_path / "whole", model_directory, None, corpus)

    def broken(*_: object) -> list[tasks.Result]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tasks, "arithmetic", broken)
        evaluate(recipe, tmp_path / "evaluate", model_directory, None, corpus)
    assert not (tmp_path / "evaluate").exists()
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "continuation", broken)  # its items stand and are not scored again
        resumed = evaluate(recipe, tmp_path / "evaluate", model_directory, None, corpus)
    assert resumed.digest == whole.digest
    assert resumed.facts["tasks"] == whole.facts["tasks"]


def test_a_task_without_items_has_rows_without_a_score(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    made = evaluate(recipe, tmp_path / "evaluate", model_directory, None, None)
    for row in made.facts["tasks"]:
        if row["name"] == "arithmetic":
            assert row["documents"] == 6
        else:
            assert (row["documents"], row["score"], row["standard_error"], row["interval"]) == (0, None, None, None)


def test_too_few_items_for_the_shots_leave_that_row_empty_and_no_other(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact
) -> None:
    greedy = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"shots": (0, 8)})})
    rows = evaluate(greedy, tmp_path / "evaluate", model_directory, None, corpus).facts["tasks"]
    assert {row["shots"]: row["documents"] for row in rows if row["name"] == "last_word"} == {0: 6, 8: 0}


def test_without_a_corpus_the_validation_shards_are_read(
    recipe: Recipe, tmp_path: Path, model_directory: Path, lm: LanguageModel, corpus: Artifact
) -> None:
    def build(workspace: Workspace) -> dict[str, object]:
        documents = [[*lm.tokenizer.encode(text * 2), 0] for text in PROSE]
        write_shards(workspace.path / "validation", documents, VOCAB_SIZE)
        return {}

    shards = produce(tmp_path / "tokenize", stage="tokenize", settings={}, inputs={}, seed=0, build=build)
    from_shards = evaluate(recipe, tmp_path / "shards", model_directory, shards, None).facts["tasks"][:3]
    from_corpus = evaluate(recipe, tmp_path / "corpus", model_directory, None, corpus).facts["tasks"][:3]
    assert [row["score"] for row in from_shards] == pytest.approx([row["score"] for row in from_corpus], rel=1e-5)


def test_texts_and_tasks_of_the_user_s_own_are_judged(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for at, text in enumerate(PROSE):
        (texts / f"{at}.txt").write_text(text)
    choices, words = tmp_path / "riddles.jsonl", tmp_path / "endings.jsonl"
    choices.write_text("".join(json.dumps(item) + "\n" for item in CHOICES))
    words.write_text("".join(json.dumps(item) + "\n" for item in WORDS))
    made = evaluate(
        recipe, tmp_path / "evaluate", model_directory, None, None, texts=texts, task_files=[choices, words]
    )
    documents = {(row["name"], row["metric"]): row["documents"] for row in made.facts["tasks"] if not row["shots"]}
    assert documents["perplexity", "bits_per_byte"] == 3
    assert documents["riddles", "accuracy_per_byte"] == documents["endings", "accuracy"] == 6
    words.write_text(json.dumps(WORDS[0]) + "\n")
    again = evaluate(
        recipe, tmp_path / "evaluate", model_directory, None, None, texts=texts, task_files=[choices, words]
    )
    assert not again.reused


def test_a_missing_task_file_and_a_taken_name_are_refused(
    recipe: Recipe, tmp_path: Path, model_directory: Path
) -> None:
    with pytest.raises(InputError, match="this task file is missing"):
        evaluate(recipe, tmp_path / "evaluate", model_directory, None, None, task_files=[tmp_path / "none.jsonl"])
    taken = tmp_path / "last_word.jsonl"
    taken.write_text("")
    with pytest.raises(InputError, match="already called last_word"):
        evaluate(recipe, tmp_path / "evaluate", model_directory, None, None, task_files=[taken])
    with pytest.raises(InputError, match="this file or directory is missing"):
        evaluate(recipe, tmp_path / "evaluate", model_directory, None, None, texts=tmp_path / "none.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_word.jsonl"]
