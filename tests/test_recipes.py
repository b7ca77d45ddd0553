"""The shipped recipes load, and count what their names say."""

import re

import pytest

from megalith.arithmetic import parameters
from megalith.recipe import load_recipe, shipped_recipes

SIZED = [name for name in shipped_recipes() if re.search(r"-[\d.]+[mb]$", name)]
# The published shape is not within 1 % of the published name, which is rounded.
ROUNDED = {"bert-1.3b": "1.3", "turing-nlg-17b": "17"}


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_says_its_own_name(name: str) -> None:
    recipe, _ = load_recipe(name)
    assert recipe.name == name
    assert recipe.about.endswith(".")


def test_the_papers_are_all_there() -> None:
    assert set(SIZED) == {
        "gpt2-124m", "gpt2-355m", "gpt2-2.5b", "gpt2-8.3b", "bert-336m", "bert-1.3b", "bert-3.9b", "gpt3-175b",
        "turing-nlg-17b", "mt-nlg-530b", "gopher-280b", "chinchilla-70b", "llama-8b", "smollm2-135m",
    }  # fmt: skip


@pytest.mark.parametrize("name", SIZED)
def test_a_recipe_has_the_parameters_of_its_name(name: str) -> None:
    digits, unit = re.fullmatch(r".*-([\d.]+)([mb])", name).groups()  # type: ignore[union-attr]
    millions_or_billions = parameters(load_recipe(name)[0].model).total / {"m": 1e6, "b": 1e9}[unit]
    if name in ROUNDED:
        places = len(digits.partition(".")[2])
        assert f"{millions_or_billions:.{places}f}" == ROUNDED[name] == digits
        assert abs(millions_or_billions / float(digits) - 1) > 0.01  # else it belongs with the others
    else:
        assert millions_or_billions == pytest.approx(float(digits), rel=0.01)


def test_mt_nlg_is_what_selene_trained() -> None:
    """2201.11990, §2.3 and §3.2."""
    recipe, _ = load_recipe("mt-nlg-530b")
    model, train, parallel = recipe.model, recipe.train, recipe.parallel
    assert parallel.tensor and parallel.pipeline and parallel.data
    assert parallel.tensor * parallel.pipeline * parallel.data == recipe.cluster.nodes * 8 == 3360
    assert parallel.tensor * parallel.pipeline == 280  # GPUs of one replica
    assert model.layers % parallel.pipeline == 0
    assert model.weight_std == pytest.approx((1 / (3 * model.hidden)) ** 0.5, rel=0.01)
    assert model.padded_vocab_size == 51200
    assert train.minimum_learning_rate == pytest.approx(0.1 * train.learning_rate)
    ramp = train.batch_ramp
    assert ramp is not None
    assert (ramp.start, ramp.increment, train.global_batch_size, ramp.tokens) == (32, 32, 1920, 12_000_000_000)


@pytest.mark.parametrize("name", [name for name in SIZED if load_recipe(name)[0].cluster.name != "local"])
def test_a_full_layout_fills_its_cluster(name: str) -> None:
    recipe, _ = load_recipe(name)
    per_node = {"selene": 8, "dgx-2": 16, "dgx-2h": 16}[recipe.cluster.name]
    axes = (recipe.parallel.tensor, recipe.parallel.pipeline, recipe.parallel.data)
    if None not in axes:
        tensor, pipeline, data = (axis or 1 for axis in axes)
        assert tensor * pipeline * data == recipe.cluster.nodes * per_node
