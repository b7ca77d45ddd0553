"""Weight decay, the learning rate's tokens, and fp16's loss scale."""

import pytest
import torch

from megalith.parallel import Mesh, Optimizer, parallelize
from megalith.recipe import Recipe
from megalith.training.data import batches
from megalith.training.loop import take_step
from megalith.training.loss_scale import GROWTH_INTERVAL, LARGEST, SMALLEST, LossScale
from megalith.training.lr_schedule import learning_rate
from tests.training.small import small_recipe
from tests.training.test_faults import run_of

LENGTH = 16


RATE, DECAY = 0.1, 0.5


def values_after_a_step(recipe: Recipe) -> dict[str, float]:
    """Parameters of 1 with gradients of 1: Adam's first step changes them by the learning rate."""
    model = parallelize(recipe.model, recipe.parallel, Mesh(), dtype=torch.float32, seed=recipe.seed)
    for master in model.masters:
        master.value.data.fill_(1.0)
        master.value.grad = torch.ones_like(master.value)
    Optimizer(model.masters, recipe.train).update(RATE)
    return {master.name: float(master.value.detach().mean()) for master in model.masters}


@pytest.mark.parametrize("model", [{}, {"family": "bert"}, {"norm": "rmsnorm", "tie_embeddings": False}], ids=str)
def test_matrices_and_embeddings_are_decayed_and_norms_and_biases_are_not(model: dict[str, str]) -> None:
    values = values_after_a_step(small_recipe(model={"num_layers": 1} | model, weight_decay=DECAY))
    plain = {name for name, value in values.items() if value == pytest.approx(1 - RATE)}
    decayed = {name for name, value in values.items() if value == pytest.approx(1 - RATE * DECAY - RATE)}
    assert plain | decayed == set(values)
    assert {name for name in values if "norm" in name or name.endswith("bias")} == plain
    assert {"token_embedding.weight", "position_embedding.weight", "layers.0.mlp.up.weight"} <= decayed


def test_the_learning_rate_counts_tokens_through_a_ramp_and_a_skipped_step() -> None:
    recipe = small_recipe(warmup_tokens=640, schedule="linear", minimum_learning_rate=0.0)
    run = run_of(Mesh(), recipe)
    run.scale.scale = 1.0
    plan = batches(recipe.train, LENGTH)
    rates = []
    for step in range(6):
        if step == 2:
            next(m for m in run.model.masters if m.name == "final_norm.weight").value.data[0] = torch.nan
        rates.append(take_step(run, next(plan))["learning_rate"])
    tokens = [64, 128, 192, 256, 384, 512]
    assert rates == pytest.approx([0.01 * count / 640 for count in tokens])
    assert rates == [learning_rate(recipe.train, count) for count in tokens]


def test_the_loss_scale_bears_one_overflow_halves_at_the_next_and_grows_after_a_while() -> None:
    scale = LossScale(8.0, grows=True)
    scale.update(finite=False)
    assert scale.scale == 8
    scale.update(finite=False)
    assert scale.scale == 4
    for _ in range(GROWTH_INTERVAL - 1):
        scale.update(finite=True)
    assert scale.scale == 4
    scale.update(finite=True)
    assert scale.scale == 8
    scale.update(finite=False)  # its patience is back
    assert scale.scale == 8


def test_the_loss_scale_stays_within_bounds_and_other_precisions_have_none() -> None:
    least, most, none = LossScale(SMALLEST, grows=True), LossScale(LARGEST, grows=True), LossScale()
    for _ in range(3):
        least.update(finite=False)
        none.update(finite=False)
    for _ in range(GROWTH_INTERVAL):
        most.update(finite=True)
    assert (least.scale, most.scale, none.scale) == (SMALLEST, LARGEST, 1.0)
