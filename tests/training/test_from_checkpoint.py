"""A checkpoint as a model: read as it lies by generate and evaluate, and the beginning of another run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megalith import verbs
from megalith.artifacts import Artifact
from megalith.errors import InputError, RecipeError
from megalith.inference import load_model, model_digests
from megalith.inference.sharded import ShardedWeights
from megalith.parallel import Mesh
from megalith.recipe import Recipe
from megalith.training import checkpoint, train
from megalith.training.initial_weights import check_origin
from megalith.training.run_state import begin
from tests.parallel.processes import on_ranks
from tests.training import small
from tests.training.test_live import recipe_of, task_of, tokens_in, train_both

STEP = "step-00000005"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tokens_in(tmp_path_factory.mktemp("from") / "tokens")


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory, tokens: Artifact) -> Path:
    """A checkpoint that two ranks have written, of a run that is not finished."""
    task = task_of(tmp_path_factory.mktemp("halves") / ".train.partial", tokens, recipe_of({"data": 2, "zero": 1}, 0))
    (task.logs / "job.json").write_text(task.model_dump_json())
    on_ranks(2, train_both, 2, [task.model_dump_json()])
    return task.checkpoints / STEP


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    with small.in_this_process():
        yield


def whole_weights(path: Path) -> dict[str, Tensor]:
    specs, read = checkpoint.model_tensors(checkpoint.open_step(path))
    return {name: read(name) for name in specs}


def test_weights_in_several_files_are_read_whole_and_in_part(halves: Path) -> None:
    assert len(list(halves.glob("shard-*"))) == 2
    weights, expected = ShardedWeights(halves), whole_weights(halves)
    assert weights.shapes == {name: tuple(each.shape) for name, each in expected.items()}
    for name, each in expected.items():
        assert torch.equal(weights.read(name), each)
        region = tuple(slice(size // 3, size - size // 4) for size in each.shape)
        assert torch.equal(weights.read(name, region), each[region])


def test_a_checkpoint_generates_and_is_evaluated_without_conversion(
    halves: Path, tokens: Artifact, tmp_path: Path
) -> None:
    lm = load_model(halves)
    for name, value in lm.model.state_dict().items():
        if name in (expected := whole_weights(halves)):
            assert torch.equal(value, expected[name])
    (made,) = verbs.generate(halves, "The number 7", tokens=4, temperature=0.0)
    assert (
        made.text == verbs.generate(recipe_of({}, 0), "The number 7", tokens=4, temperature=0.0, model=halves)[0].text
    )
    assert set(model_digests(halves)) >= {"model.safetensors", "config.json", "tokenizer.json"}
    recipe = recipe_of({}, 0).model_dump(mode="json")
    recipe["evaluate"]["tasks"] = ["perplexity"]
    shutil.copytree(tokens.path, tmp_path / "tokenize")
    found = verbs.evaluate(Recipe.model_validate(recipe), model=halves, output=tmp_path)
    assert found.path.name == f"evaluate-{STEP}"
    assert found.facts["tasks"][0]["score"] > 1


def test_a_damaged_checkpoint_is_no_model(halves: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run" / "checkpoints" / STEP
    shutil.copytree(halves.parent.parent, tmp_path / "run")
    shard = next(copied.glob("shard-*"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"shard-.* is missing or damaged"):
        load_model(copied)
    (copied / "state.json").write_text(json.dumps({"sealed": {"files": {}}, "sha256": "0"}))
    with pytest.raises(InputError, match="damaged or of another version"):
        load_model(copied)


def begun_from(place: Path, optimizer: bool) -> Recipe:
    values = recipe_of({}, 0).model_dump()
    values["train"] |= {"weights_from": str(place), "from_optimizer": optimizer, "tokens": 8 * 64}
    values["train"].pop("from", None)
    values["train"]["from"] = values["train"].pop("weights_from")
    return Recipe.model_validate(values)


@pytest.mark.parametrize("optimizer", [False, True])
def test_a_run_begins_with_the_weights_of_a_checkpoint_and_its_moments_if_asked(
    halves: Path, tokens: Artifact, tmp_path: Path, optimizer: bool
) -> None:
    recipe = begun_from(halves, optimizer)
    run = begin(task_of(tmp_path / "w", tokens, recipe), Mesh())
    expected = whole_weights(halves)
    for master in run.model.masters:
        assert torch.equal(master.value, expected[master.name])
    assert (run.progress.step, run.optimizer.steps) == (0, 5 if optimizer else 0)
    assert all(bool(each.any()) == optimizer for each in run.optimizer.state().values() if each.ndim > 1)
    made = train(recipe, tmp_path / "train", tokens, peak_flops_per_second=None, predicted={})
    assert set(made.manifest.inputs) >= {"tokens", "from/model.safetensors"}
    assert made.manifest.settings["train"].get("from_optimizer", False) == optimizer


def test_a_finished_model_has_no_optimizer(model_directory: Path, tokens: Artifact) -> None:
    with pytest.raises(RecipeError, match="no optimizer's state"):
        check_origin(begun_from(model_directory, True), tokens.path)
