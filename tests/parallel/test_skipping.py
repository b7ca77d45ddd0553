"""A step that must not be taken is taken by no rank; a batch is the same samples on any number of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from megalith.parallel import DistributedModel, Mesh, Optimizer, build_mesh, compute_dtype, parallelize
from megalith.parallel.master_weights import local
from megalith.recipe import Recipe
from megalith.recipe.machine import ParallelConfig
from megalith.tokens import TrainingWindows
from megalith.training.checkpoint import Progress
from megalith.training.data import CausalSamples, batches, rank_samples
from megalith.training.loss_scale import HYSTERESIS, LossScale
from megalith.training.run_state import Run
from megalith.training.step import take_step
from megalith.training.task import TrainTask
from tests.parallel.fakes import fake_ranks
from tests.parallel.processes import on_ranks
from tests.training.small import VOCAB, small_recipe

SCALE, LENGTH, RAMPED_STEPS = 256.0, 16, 6
LAYOUTS: dict[str, dict[str, Any]] = {
    "tensor": {"tensor": 2},
    "pipeline": {"pipeline": 2},
    "data": {"data": 2},
    "zero": {"data": 2, "zero": 1},
}
POISONED = {"tensor": "layers.0.mlp.up.weight", "pipeline": "layers.1.mlp.up.weight"}
"""A piece that the second rank has alone; in the other layouts it is the same one as the tensor layout's."""


def recipe_of(layout: dict[str, Any], **train: Any) -> Recipe:
    recipe = small_recipe(model={"dropout": 0.0}, **train)
    return recipe.model_copy(update={"parallel": ParallelConfig(**({"tensor": 1, "pipeline": 1, "data": 1} | layout))})


def run_of(ranks: Mesh, recipe: Recipe) -> Run:
    """A run before its first step, over windows in memory."""
    dtype = compute_dtype(recipe.train.precision)
    model = parallelize(
        recipe.model, recipe.parallel, build_mesh(ranks, recipe.parallel), dtype=dtype, seed=recipe.seed
    )
    task = TrainTask(recipe=recipe, tokens=Path(), workspace=Path(), run="", threads=1, peak_flops_per_second=None)
    samples = CausalSamples(TrainingWindows(np.random.default_rng(1).integers(0, VOCAB, 3000), LENGTH, 7))
    scale = LossScale(SCALE, grows=recipe.train.precision == "fp16")
    nothing: Any = None
    return Run(
        task=task,
        model=model,
        optimizer=Optimizer(model.masters, recipe.train),
        scale=scale,
        progress=Progress(run=""),
        samples=samples,
        held_out=nothing,
        held_out_count=0,
        saver=nothing,
    )


def rank_main(rank: int) -> dict[str, Tensor]:
    """Return the outcome on each of two ranks if only the second one has an infinity."""
    found: dict[str, Tensor] = {}
    for name, layout in LAYOUTS.items():
        recipe = recipe_of(layout, precision="fp16", batch_ramp=None)
        pieces = [POISONED.get(name, POISONED["tensor"])] + (["final_norm.weight"] if name == "tensor" else [])
        for piece in pieces:
            run = run_of(Mesh(rank, 2), recipe)
            told = _overflow(run, piece, on_this_rank=rank == 1)
            found |= {f"{name} {piece}/{key}": value for key, value in told.items()}
        run = run_of(Mesh(rank, 2), recipe_of(layout, batch_ramp=None))
        found |= {f"{name} loss/{key}": value for key, value in _infinite_loss(run, on_this_rank=rank == 1).items()}
    return found


def _overflow(run: Run, piece: str, *, on_this_rank: bool) -> dict[str, Tensor]:
    """Four steps; the gradient of `piece` overflows in the second and third, on this rank or not."""
    plan, scales, moved, finite = batches(run.train, LENGTH), [], [], []
    for poisoned in (False, True, True, False):
        before = _values(run)
        with _overflowing(run.model, piece) if poisoned and on_this_rank else nullcontext():
            record = take_step(run, next(plan))
        moved.append(not torch.equal(before, _values(run)))
        finite.append(record["gradient_norm"] is not None)
        scales.append(run.scale.scale)
    return {
        "moved": torch.tensor(moved),
        "finite": torch.tensor(finite),
        "scales": torch.tensor(scales),
        "adam": torch.tensor([run.optimizer.steps, run.progress.skipped_steps, run.progress.step]),
    }


@contextmanager
def _overflowing(model: DistributedModel, piece: str) -> Iterator[None]:
    """Within the block a rank's own gradient overflows before the sum, with ZeRO the shard that the rank has of it.

    It does so in the backward pass: a bucket of gradients that is whole is on its way before the pass has ended.
    """
    (master,) = [each for each in model.masters if each.name == piece]
    if model.parallel.zero:
        plain = model.gradients.reduce

        def reduce() -> None:
            plain()
            _poison(master.value.grad)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model.gradients, "reduce", reduce)
            yield
        return
    hook = master.parameter.register_hook(_poison)
    yield
    hook.remove()


def _poison(gradient: Tensor | None) -> None:
    assert gradient is not None
    local(gradient).view(-1)[0] = torch.inf


def _infinite_loss(run: Run, *, on_this_rank: bool) -> dict[str, Tensor]:
    """One step in which the loss, and no gradient, is infinite on this rank or not."""
    if on_this_rank:
        for stage in run.model.stages.values():
            plain = stage.cross_entropy

            def infinite(*args: Any, plain: Any = plain, **named: Any) -> tuple[Tensor, Tensor]:
                total, z = plain(*args, **named)
                return total + math.inf, z

            stage.cross_entropy = infinite
    before = _values(run)
    run.progress.skipped_in_a_row = 1  # within a streak nothing is played again, and no rank is blamed
    record = take_step(run, next(batches(run.train, LENGTH)))
    told = [record["loss"] is None, record["gradient_norm"] is not None, torch.equal(before, _values(run))]
    return {"told": torch.tensor(told), "adam": torch.tensor([run.optimizer.steps, run.progress.skipped_steps])}


def _values(run: Run) -> Tensor:
    return torch.cat([m.value.detach().flatten().clone() for m in run.model.masters])


@pytest.fixture(scope="module")
def found() -> list[dict[str, Tensor]]:
    return on_ranks(2, rank_main)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_overflow_on_one_rank_makes_every_rank_skip_and_halve_the_scale(
    found: list[dict[str, Tensor]], layout: str
) -> None:
    """Point 14: the first overflow is borne, the second halves; Adam has not seen either."""
    _skips_twice(found, f"{layout} {POISONED.get(layout, POISONED['tensor'])}")


def test_an_overflow_in_what_all_ranks_hold_is_seen_though_another_rank_counts_it(
    found: list[dict[str, Tensor]],
) -> None:
    """Points 9 and 14: what one rank has of a norm's weight is left out of the global norm, and not of the watch."""
    _skips_twice(found, "tensor final_norm.weight")


def _skips_twice(found: list[dict[str, Tensor]], what: str) -> None:
    assert HYSTERESIS == 2
    for rank in found:
        assert rank[f"{what}/finite"].tolist() == [True, False, False, True]
        assert rank[f"{what}/moved"].tolist() == [True, False, False, True]
        assert rank[f"{what}/scales"].tolist() == [SCALE, SCALE, SCALE / 2, SCALE / 2]
        assert rank[f"{what}/adam"].tolist() == [2, 2, 4]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_infinite_loss_on_one_rank_makes_every_rank_skip(found: list[dict[str, Tensor]], layout: str) -> None:
    """Point 15: in a pipeline the last stage alone knows."""
    for rank in found:
        if layout == "tensor":  # both ranks have the same loss, and the first one's counts
            continue
        assert rank[f"{layout} loss/told"].tolist() == [True, True, True]
        assert rank[f"{layout} loss/adam"].tolist() == [0, 1]


def ramped_losses(rank: int, layout: dict[str, Any]) -> dict[str, Tensor]:
    """Return the losses of steps that begin with fewer sequences than ranks."""
    torch.set_default_dtype(torch.float64)
    run = run_of(Mesh(rank, math.prod(layout.values())), recipe_of(layout))
    plan = batches(run.train, LENGTH)
    return {"losses": torch.tensor([take_step(run, next(plan))["loss"] for _ in range(RAMPED_STEPS)])}


def test_a_batch_ramp_gives_the_losses_of_one_process_on_any_number_of_ranks() -> None:
    """Points 19 and 20: 4 sequences of micro-batches of 2 leave two of four ranks without any."""
    alone = ramped_losses(0, {})["losses"]
    torch.set_default_dtype(torch.float32)
    for rank in on_ranks(4, ramped_losses, {"data": 4}):
        torch.testing.assert_close(rank["losses"], alone, rtol=1e-9, atol=0)


@pytest.mark.parametrize("data", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("pipeline", [{}, {"pipeline": 2, "schedule": "interleaved-1f1b", "virtual_stages": 2}])
def test_a_batch_ramp_reads_the_same_samples_on_any_number_of_ranks(data: int, pipeline: dict[str, Any]) -> None:
    """Points 19 and 20: each sample of the ramp once, in micro-batches of one number on all ranks."""
    recipe = recipe_of({"data": data, **pipeline})
    every = [batch for batch, _ in zip(batches(recipe.train, LENGTH), range(RAMPED_STEPS), strict=False)]
    assert {batch.sequences for batch in every} == {4, 8}
    world = data * (recipe.parallel.pipeline or 1)
    shares = []
    for rank in range(data):  # the first stage's
        with fake_ranks(recipe.parallel, world, rank) as ranks:
            shares.append([rank_samples(recipe, batch, ranks) for batch in every])
    for step, batch in enumerate(every):
        read = [number for share in shares for own in share[step] for number in own]
        assert sorted(read) == list(range(batch.first_sample, batch.first_sample + batch.sequences))
        assert len({len(share[step]) for share in shares}) == 1
        assert not pipeline or len(shares[0][step]) % 2 == 0
