"""The stage: what it leaves, what it reuses, and what it says of bad input."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError, RecipeError
from megalith.evaluation import evaluate
from megalith.inference import LanguageModel
from megalith.recipe import EvaluateConfig, ModelConfig, Recipe, TokenizeConfig
from megalith.tokens import write_shards
from tests.inference.models import PROSE, VOCAB_SIZE

WORDS = [{"id": f"w{at}", "document": f"d{at}", "context": "The nurse was", "target": " a"} for at in range(8)]
CHOICES = [
    {"id": f"c{at}", "document": f"d{at}", "context": "It is", "choices": [" a", " b", " c", " d"], "answer": at % 4}
    for at in range(8)
]
CHOICE = ("accuracy", "accuracy_per_token", "accuracy_per_byte", "accuracy_per_character", "bits_per_byte")
ROWS = [
    *[("perplexity", 0, metric) for metric in ("token_perplexity", "byte_perplexity", "bits_per_byte")],
    *[("last_word", shots, metric) for shots in (0, 2) for metric in ("accuracy", "perplexity")],
    *[("continuation", shots, metric) for shots in (0, 2) for metric in CHOICE],
    *[("arithmetic", shots, metric) for shots in (0, 2) for metric in ("exact_match", "bits_per_byte")],
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
        with workspace.file("train/part-00000.parquet") as path:
            pq.write_table(pa.table({"id": ["d", "e"], "text": [f"He wrote: {PROSE[0]}", "And so on."]}), path)
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
    assert made.facts["truncated"] == sum(run["truncated"] for run in made.facts["runs"])
    assert sum(run["dropped_shots"] for run in made.facts["runs"]) > 0  # a context of 32 tokens holds no two
    samples = json.loads((made.path / "samples.json").read_text())
    assert all(set(sample) == {"prompt", "text"} for sample in samples)


def test_documents_that_stand_in_the_training_text_are_found(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact
) -> None:
    made = evaluate(recipe, tmp_path / "evaluate", model_directory, None, corpus)
    found = [json.loads(line) for line in (made.path / "contamination.jsonl").open()]
    assert {one["task"] for one in found} == {"perplexity", "last_word", "continuation", "arithmetic"}
    (held,) = [one for one in found if (one["task"], one["id"]) == ("perplexity", "a")]
    # The text stands there once and is looked for twice over: all but the 12 n-grams across the seam are found.
    assert (held["ngrams_13"] - held["found_13"], held["any_13_words"]) == (12, True)
    assert not any(one["any_13_words"] for one in found if one["task"] != "perplexity")
    rows = made.facts["contamination"]
    assert {(row["name"], row["shots"]) for row in rows} == {(row["name"], row["shots"]) for row in made.facts["tasks"]}
    assert all("cannot tell" in row["note"] for row in rows)
    off = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"contamination": False})})
    assert "contamination" not in evaluate(off, tmp_path / "off", model_directory, None, corpus).facts


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


def test_a_killed_evaluation_goes_on_at_the_item_and_ends_in_the_same_bytes(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"batch_tokens": 4})})
    whole = evaluate(small, tmp_path / "whole", model_directory, None, corpus)
    written: list[str] = []

    def counted(self: Workspace, name: str) -> object:
        written.append(name)
        if len(written) == 11:
            raise KeyboardInterrupt
        return file(self, name)

    file = Workspace.file
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Workspace, "file", counted)
        evaluate(small, tmp_path / "evaluate", model_directory, None, corpus)
    assert not (tmp_path / "evaluate").exists()
    left = list((tmp_path / ".evaluate.partial").rglob("*.jsonl"))
    assert any("parts" in path.parts for path in left) and any("items" in path.parts for path in left)
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "file", counted)
        resumed = evaluate(small, tmp_path / "evaluate", model_directory, None, corpus)
    assert len(written) == len(set(written)) + 1  # the one that was cut short; the rest stood
    assert resumed.digest == whole.digest
    assert not list(resumed.path.rglob("parts"))


def test_a_task_without_items_has_rows_without_a_score(recipe: Recipe, tmp_path: Path, model_directory: Path) -> None:
    made = evaluate(recipe, tmp_path / "evaluate", model_directory, None, None)
    for row in made.facts["tasks"]:
        if row["name"] == "arithmetic":
            assert row["documents"] == 6
        else:
            assert row["name"] == "perplexity" or "no corpus" in row["note"]
            assert (row["documents"], row["score"], row["standard_error"], row["interval"]) == (0, None, None, None)


def test_too_few_items_for_the_shots_leave_that_row_empty_and_no_other(
    recipe: Recipe, tmp_path: Path, model_directory: Path, corpus: Artifact
) -> None:
    greedy = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"shots": (0, 8)})})
    rows = evaluate(greedy, tmp_path / "evaluate", model_directory, None, corpus).facts["tasks"]
    assert {row["shots"]: row["documents"] for row in rows if row["name"] == "last_word"} == {0: 6, 8: 0}
    (note,) = {row["note"] for row in rows if row["name"] == "last_word" and row["shots"] == 8}
    assert "8 solved examples are wanted for w0, and the pool has 7" in note


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
    own = evaluate_with(recipe, texts=str(texts), tasks=("perplexity", str(choices), str(words)))
    made = evaluate(own, tmp_path / "evaluate", model_directory, None, None)
    documents = {(row["name"], row["metric"]): row["documents"] for row in made.facts["tasks"] if not row["shots"]}
    assert documents["perplexity", "bits_per_byte"] == 3
    assert documents["riddles", "accuracy_per_byte"] == documents["endings", "accuracy"] == 6
    words.write_text("".join(json.dumps(item) + "\n" for item in WORDS[:7]))
    assert not evaluate(own, tmp_path / "evaluate", model_directory, None, None).reused


def test_a_missing_task_file_a_taken_name_and_an_unknown_task_are_refused(
    recipe: Recipe, tmp_path: Path, model_directory: Path
) -> None:
    taken = tmp_path / "last_word.jsonl"
    taken.write_text(json.dumps(WORDS[0]) + "\n")
    for settings, message in (
        ({"tasks": (str(tmp_path / "none.jsonl"),)}, "this task file is missing"),
        ({"tasks": (str(taken),)}, "already called last_word"),
        ({"texts": str(tmp_path / "none.txt")}, "this file or directory is missing"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(evaluate_with(recipe, **settings), tmp_path / "evaluate", model_directory, None, None)
    words = tmp_path / "words.jsonl"
    words.write_text("".join(json.dumps(item) + "\n" for item in WORDS))
    wrong = evaluate_with(recipe, tasks=(str(words),), wrong_labels=0.5)
    with pytest.raises(InputError, match=r"words, w\d: .*no wrong answer to show .* evaluate.wrong_labels"):
        evaluate(wrong, tmp_path / "evaluate", model_directory, None, None)
    words.unlink()
    for name, message in (("bolq", "Use boolq"), ("boolq.gpt4", "Use boolq.lm_eval or boolq.gpt3")):
        with pytest.raises(RecipeError, match=message):
            evaluate(evaluate_with(recipe, tasks=(name,)), tmp_path / "evaluate", model_directory, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_word.jsonl"]


def test_a_missing_official_file_is_named_with_its_origin_and_the_setting(
    recipe: Recipe, tmp_path: Path, model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEGALITH_DATA", raising=False)
    boolq = evaluate_with(recipe, tasks=("boolq",))
    with pytest.raises(InputError, match=r"evaluate.data: boolq/val.jsonl is needed, .* from dl.fbaipublicfiles.com"):
        evaluate(boolq, tmp_path / "evaluate", model_directory, None, None)
    with pytest.raises(InputError, match=r"boolq/val.jsonl .*is missing. Put it there from .*, or set evaluate.data"):
        evaluate(evaluate_with(boolq, data=str(tmp_path)), tmp_path / "evaluate", model_directory, None, None)


def test_an_official_task_is_asked_in_every_form_with_digests_and_clusters(
    recipe: Recipe, tmp_path: Path, model_directory: Path
) -> None:
    (tmp_path / "boolq").mkdir()
    lines = [
        {"question": f"is {at} even", "passage": f"Number {at // 2} -- It is.", "label": at % 2 == 0} for at in range(8)
    ]
    (tmp_path / "boolq/val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    forms = ("continuation", "unconditional", "letter", "bits_per_byte")
    asked = evaluate_with(
        recipe, tasks=("boolq", "boolq.gpt3"), data=str(tmp_path), items="all", forms=forms, shot_labels="balanced"
    )
    made = evaluate(asked, tmp_path / "evaluate", model_directory, None, None)
    rows = [row for row in made.facts["tasks"] if row["shots"] == 2]
    assert {(row["name"], row["documents"], row["clusters"]) for row in rows} == {("boolq", 8, 4), ("boolq.gpt3", 8, 4)}
    assert {row["metric"] for row in rows} == {*CHOICE, "accuracy_unconditional", "accuracy_letter"}
    assert len({row["template_digest"] for row in rows}) == 2 and len({row["task_digest"] for row in rows}) == 1
    assert all(row["weights_digest"] and row["tokenizer_digest"] and row["version"] == 1 for row in rows)
    for item in map(json.loads, (made.path / "items/boolq-2.jsonl").open()):
        places = {int(item["id"]) // 2} & {place // 2 for place in item["shots"]}
        assert not places and len(item["log_probabilities"]) == len(item["letters"]) == len(item["unconditional"]) == 2
    assert all(row["name"].startswith("boolq") for row in made.facts["runs"])


def evaluate_with(recipe: Recipe, **settings: object) -> Recipe:
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=settings)})
