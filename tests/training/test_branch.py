"""Branches: a run goes on from a checkpoint under changed settings, beside its trunk, which stays as it is."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megalith.artifacts import Artifact, Workspace, produce
from megalith.cli import app
from megalith.errors import InputError, RecipeError
from megalith.recipe import Recipe
from megalith.tokens import Blend, TrainingWindows, open_split, write_shards
from megalith.training import branch_at, loop, train
from megalith.training.data import training_samples
from megalith.training.task import Stopped, TrainTask
from tests.training import small

STEP_TOKENS = 8 * 16
TRUNK_STEPS = 6


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    with small.in_this_process():
        yield


def recipe_of(**train: Any) -> Recipe:
    """Steps of 8 sequences at a rate that stays where it is."""
    settings: dict[str, Any] = {
        "tokens": TRUNK_STEPS * STEP_TOKENS,
        "batch_ramp": None,
        "schedule": "constant",
        "warmup_tokens": STEP_TOKENS,
        "micro_batch_size": 8,
        "checkpoint_interval": 2,
        "validation_interval": 100,
        "checkpoints_kept": 9,
    }
    return small.small_recipe(model={"num_layers": 1, "dropout": 0.0}, **settings | train)


def half_made(directory: Path, recipe: Recipe, steps: int) -> Path:
    """An unfinished run of so many steps."""
    asked = [False] * (steps - 1) + [True]

    def start(task: TrainTask, processes: int) -> None:
        small.write_task(task)
        loop.run(task, small.Mesh(), lambda: asked.pop(0))

    with pytest.raises(Stopped), pytest.MonkeyPatch.context() as patch:
        patch.setattr(small.launch, "start", start)
        small.run(directory, recipe)
    return directory / ".train.partial"


def branch(directory: Path, recipe: Recipe, at: str, cooldown: int | None = None, seed: int = 0) -> Artifact:
    tokens = small.make_tokens(directory / "tokens", seed)
    found = branch_at(recipe, directory, at, tokens, cooldown)
    place = directory / found.name
    return train(found.recipe, place, tokens, peak_flops_per_second=None, predicted={}, trunk=found.trunk)


def history(artifact: Artifact) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((artifact.path / "history.json").read_text())
    return told


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    """A directory with a run that was stopped after its last step but one."""
    half_made(tmp_path, recipe_of(), TRUNK_STEPS - 1)
    return tmp_path


def test_more_tokens_go_on_from_a_finished_run_to_the_very_losses_of_the_longer_run(tmp_path: Path) -> None:
    longer = recipe_of(tokens=9 * STEP_TOKENS)
    short = small.run(tmp_path / "short", recipe_of())
    made = branch(tmp_path / "short", longer, "6")
    whole = small.run(tmp_path / "whole", longer)
    assert history(made)["steps"] == history(whole)["steps"]
    assert (made.path / "model/model.safetensors").read_bytes() == (whole.path / "model/model.safetensors").read_bytes()
    assert made.facts["resumed_at_step"] == 6
    assert made.path.name.startswith("train-6-")
    assert small.run(tmp_path / "short", recipe_of()).digest == short.digest, "the trunk stands"
    (event,) = history(made)["events"]
    assert event["changes"]["train.tokens"] == [6 * STEP_TOKENS, 9 * STEP_TOKENS]
    assert (event["step"], made.manifest.settings["trunk"]["step"]) == (6, 6)
    assert branch(tmp_path / "short", longer, "6").reused


def test_several_cooldowns_begin_from_one_trunk_that_goes_on_as_if_nothing_had_been(trunk: Path) -> None:
    ends = {}
    for tokens in (2 * STEP_TOKENS, 4 * STEP_TOKENS):
        made = branch(trunk, recipe_of(minimum_learning_rate=0.0), "4", cooldown=tokens)
        assert made.path.name.startswith(f"train-4-cooldown-{tokens}")
        rates = [step["learning_rate"] for step in history(made)["steps"]]
        steps = tokens // STEP_TOKENS
        assert rates[3:] == pytest.approx([0.01 * (1 - done / steps) for done in range(steps + 1)])
        ends[tokens] = made.digest
    assert len(set(ends.values())) == 2
    whole = small.run(trunk, recipe_of())
    assert history(whole)["steps"] == history(small.run(trunk / "apart", recipe_of()))["steps"]


def test_a_branch_that_was_stopped_goes_on_though_its_trunk_is_gone(trunk: Path) -> None:
    recipe = recipe_of(learning_rate=0.02, tokens=8 * STEP_TOKENS)
    tokens = small.make_tokens(trunk / "tokens")
    found = branch_at(recipe, trunk, "4", tokens)
    whole = train(found.recipe, trunk / "whole", tokens, peak_flops_per_second=None, predicted={}, trunk=found.trunk)
    half_made(trunk / "broken", recipe_of(), 4)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        asked = iter([False, False, True])
        patch.setattr(small.launch, "start", lambda task, _: _run_until(task, asked))
        branch(trunk / "broken", recipe, "4")
    shutil.rmtree(trunk / "broken/.train.partial/checkpoints")
    again = branch(trunk / "broken", recipe, "4")
    assert again.facts["resumed_at_step"] == 7
    assert history(again)["steps"] == history(whole)["steps"]


def _run_until(task: TrainTask, asked: Iterator[bool]) -> None:
    small.write_task(task)
    loop.run(task, small.Mesh(), lambda: next(asked))


@pytest.mark.parametrize(
    ("settings", "at", "cooldown", "said"),
    [
        ({}, "4", None, "nothing is changed"),
        ({"learning_rate": 0.02}, "3", None, "there are those of 2, 4, 5"),
        ({"learning_rate": 0.02}, "elsewhere", None, "neither a step nor a checkpoint"),
        ({"tokens": 4 * STEP_TOKENS}, "4", None, "512 are behind step 4"),
        ({"batch_ramp": {"start": 4, "increment": 4, "tokens": 64}, "precision": "bf16"}, "4", None, None),
    ],
)
def test_a_branch_that_cannot_be_is_refused_with_the_mend(
    trunk: Path, settings: dict[str, Any], at: str, cooldown: int | None, said: str | None
) -> None:
    if said is None:
        (event,) = history(branch(trunk, recipe_of(**settings), at))["events"]
        assert {"train.precision", "train.batch_ramp.start"} < set(event["changes"])
        return
    with pytest.raises((InputError, RecipeError), match=said) as refused:
        branch(trunk, recipe_of(**settings), at, cooldown)
    assert refused.value.mend


def test_another_model_or_seed_is_no_branch(trunk: Path) -> None:
    for recipe in (recipe_of().model_copy(update={"seed": 9}), small.small_recipe(tokens=9 * STEP_TOKENS)):
        with pytest.raises(RecipeError, match="a branch cannot change it"):
            branch(trunk, recipe, "4")


def test_a_cooldown_wants_a_step_at_the_peak(tmp_path: Path) -> None:
    half_made(tmp_path, recipe_of(schedule="cosine"), 4)
    with pytest.raises(RecipeError, match=r"at step 4 of this cosine schedule the rate is 0\.00"):
        branch(tmp_path, recipe_of(schedule="cosine"), "4", cooldown=STEP_TOKENS)


def test_other_tokens_are_read_from_their_first_sample_on(trunk: Path) -> None:
    made = branch(trunk, recipe_of(), "4", seed=1)
    told = TrainTask.model_validate_json((made.path / "logs/job.json").read_text())
    assert told.data_from == 4 * 8
    plain = told.model_copy(update={"trunk": None})
    assert training_samples(told).batch(32, 2)["tokens"].equal(training_samples(plain).batch(0, 2)["tokens"])
    assert "inputs.tokens" in history(made)["events"][0]["changes"]


def blended_tokens(path: Path) -> Artifact:
    def build(workspace: Workspace) -> dict[str, Any]:
        for number, split in enumerate(("train-a", "train-b", "validation")):
            ids = [(number * 100 + place) % small.VOCAB for place in range(3000)]
            write_shards(workspace.path / split, [ids[at : at + 50] for at in range(0, 3000, 50)], small.VOCAB)
        workspace.write_json("tokenizer.json", {"of": "the test"})
        return {"vocab_size": small.VOCAB}

    return produce(path, stage="tokenize", settings={}, inputs={}, seed=0, build=build)


def test_other_shares_read_on_in_each_data_set_where_the_trunk_had_come_to(tmp_path: Path) -> None:
    def blend(a: float, **train: Any) -> Recipe:
        values = recipe_of(**train).model_dump()
        values["blend"] = {"datasets": {"a": {"weight": a}, "b": {"weight": 1.0}}}
        return Recipe.model_validate(values)

    tokens = blended_tokens(tmp_path / "tokens")
    train(blend(3.0), tmp_path / "train", tokens, peak_flops_per_second=None, predicted={})
    found = branch_at(blend(1.0, tokens=9 * STEP_TOKENS), tmp_path, "6", tokens)
    assert found.trunk.drawn == {"a": 36, "b": 12}
    task = found.task.model_copy(update={"recipe": found.recipe, "trunk": found.trunk})
    windows = [TrainingWindows(open_split(tokens.path, f"train-{name}").stream, 16, 7) for name in "ab"]
    shares = Blend([(windows[0], 1), (windows[1], 1)])
    for sample in range(48, 56):
        owner, number = shares.locate(sample - 48)
        expected = windows[owner].batch(number + (36, 12)[owner], 1)[0]
        assert training_samples(task).batch(sample, 1)["tokens"].numpy().tolist() == expected.tolist()


def test_the_count_of_each_data_set_is_that_of_its_samples() -> None:
    windows = TrainingWindows(open_split_of(range(400)), 16, 7)
    shares = Blend([(windows, 5), (windows, 3), (windows, 1.5)])
    owners = [shares.locate(sample)[0] for sample in range(200)]
    for samples in (0, 1, 7, 200):
        assert shares.counts(samples) == [owners[:samples].count(owner) for owner in range(3)]


def open_split_of(ids: range) -> Any:
    import numpy as np

    return np.array(ids)


def test_the_verb_takes_a_step_and_a_cooldown_and_refuses_one_without_the_other(tmp_path: Path) -> None:
    recipe = recipe_of()
    tokens = small.make_tokens(tmp_path / "tokenize")
    train(recipe, tmp_path / "train", tokens, peak_flops_per_second=None, predicted={})
    (tmp_path / "r.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    options = ["--output", str(tmp_path), "--json"]
    shown = CliRunner().invoke(app, ["train", str(tmp_path / "r.json"), "--branch", "6", "--cooldown", "256", *options])
    assert json.loads(shown.stdout)["steps"] == 8, shown.output
    assert (tmp_path / "train-6-cooldown-256/model/model.safetensors").is_file()
    alone = CliRunner().invoke(app, ["train", str(tmp_path / "r.json"), "--cooldown", "256", *options])
    assert alone.exit_code == 2


def test_a_branch_is_a_trunk_itself(trunk: Path) -> None:
    first = branch(trunk, recipe_of(learning_rate=0.02), "4")
    (place,) = (first.path / "checkpoints").glob("step-*")
    second = branch(trunk, recipe_of(learning_rate=0.02, tokens=8 * STEP_TOKENS), str(place))
    assert [event["step"] for event in history(second)["events"]] == [4, 6]
    told = TrainTask.model_validate_json((first.path / "logs/job.json").read_text())
    assert second.manifest.settings["trunk"] == {"run": told.run, "step": 6}
