"""Tasks scored in training: on every layout what one process scores, and no bit of the training changes by it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import UnsupportedError
from megalith.evaluation.chosen import chosen_tasks
from megalith.evaluation.evaluate import runs_of
from megalith.evaluation.rows import rows_of
from megalith.evaluation.scoring import Scoring
from megalith.evaluation.texts import held_out
from megalith.inference import LanguageModel
from megalith.model import GPT
from megalith.parallel import Mesh, compute_deterministically
from megalith.recipe import Recipe
from megalith.tokens import load_tokenizer, write_shards
from megalith.tokens.tokenizer import train_tokenizer
from megalith.training import loop
from megalith.training.checkpoint import model_tensors, newest, open_step
from megalith.training.task import TrainTask
from megalith.training.train import refuse_what_cannot_be_trained
from tests.parallel.processes import on_ranks
from tests.training import small

LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor": {"tensor": 2},
    "sequence": {"tensor": 2, "sequence_parallel": True},
    "pipeline": {"pipeline": 2},
    "data": {"data": 2},
    "zero-1": {"data": 2, "zero": 1},
    "zero-3": {"data": 2, "zero": 3},
}
TEXTS = [f"The number {number} stands before {number + 1}, and {number} is not {number + 2}." for number in range(300)]
STEPS, EVERY = 5, 2


def tokens_in(path: Path) -> Artifact:
    """A tokenize artifact with a tokenizer that texts can be read by."""

    def build(workspace: Workspace) -> dict[str, Any]:
        tokenizer = train_tokenizer(TEXTS, small.VOCAB)
        tokenizer.save(workspace.path / "tokenizer.json")
        ids = tokenizer.encode_batch(TEXTS)
        for split, part in (("train", ids[:250]), ("validation", ids[250:])):
            write_shards(workspace.path / split, [[*each, tokenizer.end_of_text] for each in part], small.VOCAB)
        return {"vocab_size": tokenizer.vocab_size}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=0, build=build)


def own_task(folder: Path) -> str:
    """A task file, whose questions the texts answer."""
    rows = [{"n": str(n), "right": f" {n + 1}", "answer": 0} for n in range(0, 90, 9)]
    (folder / "after.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ("data: after.jsonl", 'prompt: "The number {n} stands before"', 'choices: ["{right}", " seven"]')
    (folder / "after.yaml").write_text("\n".join(lines))
    return str(folder / "after.yaml")


def recipe_of(layout: dict[str, Any], every: int, tasks: tuple[str, ...] = (), **more: Any) -> Recipe:
    recipe = small.small_recipe(
        model={"num_layers": 2, "sequence_length": 64, "dropout": 0.1, **more.pop("model", {})},
        parallel=layout,
        tokens=STEPS * 8 * 64,
        batch_ramp=None,
        micro_batch_size=2,
        checkpoint_interval=100,
        validation_interval=3,
        **more,
    )
    values = recipe.model_dump()
    values["evaluate"] = {"tasks": ["perplexity", "arithmetic", *tasks], "items": 3, "shots": [0, 1], "every": every}
    return Recipe.model_validate(values)


def task_of(directory: Path, tokens: Artifact, recipe: Recipe) -> TrainTask:
    (directory / "logs").mkdir(parents=True)
    return TrainTask(
        recipe=recipe, tokens=tokens.path, workspace=directory, run="r", threads=1, peak_flops_per_second=None
    )


def train_both(rank: int, world: int, tasks: list[str]) -> dict[str, Tensor]:
    """Train each task; the state of the random numbers afterwards."""
    compute_deterministically()
    found = {}
    for number, task in enumerate(tasks):
        loop.run(TrainTask.model_validate_json(task), Mesh(rank, world), lambda: False)
        found[f"random {number}"] = torch.get_rng_state()
    return found


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tokens_in(tmp_path_factory.mktemp("live") / "tokens")


def by_one_process(task: TrainTask, tokens: Artifact) -> list[dict[str, Any]]:
    """The rows under the last checkpoint's weights."""
    found = newest(task.checkpoints, task.run)
    assert found is not None
    specs, whole = model_tensors(found)
    model = GPT(task.recipe.model)
    model.load_state_dict({name: whole(name) for name in specs}, strict=False)
    tokenizer = load_tokenizer(tokens.path)
    lm = LanguageModel(model.eval(), task.recipe.model, tokenizer, tuple(map(len, tokenizer.token_bytes or ())))
    config = task.recipe.evaluate
    scoring, rows = Scoring(lm, config.batch_tokens), []
    for one in (each for each in chosen_tasks(config, None) if each.kind != "generate"):
        for run in runs_of(task.recipe, scoring, one, lambda: held_out(lm, None, None, tokens, 3, task.recipe.seed)):
            rows += rows_of(run.kind, run.name, run.shots, run.judge(range(len(run.sizes))), config.forms)
    return rows


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scoring_in_training_changes_no_bit_of_it_and_gives_the_scores_of_one_process(
    tmp_path: Path, tokens: Artifact, layout: str
) -> None:
    pair = [
        task_of(tmp_path / name, tokens, recipe_of(LAYOUTS[layout], every, (own_task(tmp_path),)))
        for name, every in (("without", 0), ("with", EVERY))
    ]
    for rank in on_ranks(2, train_both, 2, [task.model_dump_json() for task in pair]):
        assert torch.equal(rank["random 0"], rank["random 1"])
    without, live = ((task.checkpoints / f"step-{STEPS:08d}") for task in pair)
    for name in ("steps.jsonl", "validation.jsonl"):
        assert (live.parent / name).read_bytes() == (without.parent / name).read_bytes()
    shards = sorted(path.name for path in without.glob("shard-*"))
    assert shards
    for name in shards:
        assert (live / name).read_bytes() == (without / name).read_bytes()
    assert open_step(without).progress.evaluations == []
    evaluations = open_step(live).progress.evaluations
    assert [each["step"] for each in evaluations] == [2, 4, STEPS]
    expected = by_one_process(pair[1], tokens)
    scored = [row for row in evaluations[-1]["rows"] if row["score"] is not None]
    assert {row["name"] for row in scored} == {"perplexity", "after"}
    for row, other in zip(evaluations[-1]["rows"], expected, strict=True):
        assert (row["name"], row["shots"], row["metric"]) == (other["name"], other["shots"], other["metric"])
        if row["score"] is not None:
            assert row["score"] == pytest.approx(other["score"], rel=1e-4)
    logged = [json.loads(line) for line in (pair[1].logs / "metrics.jsonl").read_text().splitlines()]
    assert sum("evaluate/perplexity-0/bits_per_byte" in each for each in logged) == 3


def test_what_cannot_be_scored_in_training_is_refused_by_its_key() -> None:
    for recipe in (recipe_of({}, 1, compile=True), recipe_of({}, 1, model={"family": "bert"})):
        with pytest.raises(UnsupportedError) as refused:
            refuse_what_cannot_be_trained(recipe)
        assert refused.value.where == "evaluate.every"
