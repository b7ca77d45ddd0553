"""Two ranks against an independent single process, in fp64: five steps, with unequal counts of targets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from megalith.model import GPT, initialise
from megalith.parallel import Mesh, Optimizer, build_mesh, compute_dtype, parallelize
from megalith.recipe import Recipe
from megalith.tokens import IGNORE, TrainingWindows, ValidationWindows
from megalith.training.checkpoint import Progress
from megalith.training.data import CausalSamples, batches
from megalith.training.loop import Run, take_step
from megalith.training.loss_scale import loss_scale
from megalith.training.lr_schedule import learning_rate
from megalith.training.task import TrainTask
from megalith.training.validation import validation_loss
from tests.parallel.processes import start, wait
from tests.training.small import VOCAB, small_recipe

STEPS = 5


class MaskedWindows(TrainingWindows):
    """Training windows in which the later samples of each four have fewer targets that count."""

    def batch(self, first_sample: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        inputs, targets = super().batch(first_sample, count)
        targets = targets.copy()  # of a single sample, both are views of the same tokens
        for row, sample in enumerate(range(first_sample, first_sample + count)):
            targets[row, : sample % 4 * 5] = IGNORE
        return inputs, targets


def recipe_of(data: int) -> Recipe:
    return small_recipe(data, model={"dropout": 0.0, "tie_embeddings": False}, clip_norm=0.5, weight_decay=0.1)


def windows() -> MaskedWindows:
    stream = np.random.default_rng(1).integers(0, VOCAB, 3000)
    return MaskedWindows(stream, 16, 7)


def run_of(ranks: Mesh, recipe: Recipe) -> Run:
    """A run before its first step, over windows in memory."""
    precision = recipe.train.precision
    dtype = compute_dtype(precision)
    model = parallelize(
        recipe.model, recipe.parallel, build_mesh(ranks, recipe.parallel), dtype=dtype, seed=recipe.seed
    )
    validation = ValidationWindows(np.random.default_rng(2).integers(0, VOCAB, 333), 16)
    task = TrainTask(recipe=recipe, tokens=Path(), workspace=Path(), run="", threads=1, peak_flops_per_second=None)
    optimizer, samples = Optimizer(model.masters, recipe.train), CausalSamples(windows())
    held_out = CausalSamples(validation)
    progress, scale = Progress(run=""), loss_scale(precision)
    return Run(task, model, optimizer, scale, progress, samples, held_out, len(validation), None)  # type: ignore[arg-type]  # nothing is saved


def steps_of(ranks: Mesh, recipe: Recipe) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor], float]:
    """Return the results of `take_step`: its records, the parameters after it, and a validation loss."""
    run = run_of(ranks, recipe)
    records = [take_step(run, batch) for batch, _ in zip(batches(recipe.train, 16), range(STEPS), strict=False)]
    held_out = validation_loss(run.model, run.held_out, run.held_out_count, run.held_out_count, 2)
    return records, weights_of(run), held_out


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    return {master.name: master.value.detach().clone() for master in run.model.masters}


def rank_main(rank: int, results: str) -> None:
    """One of two ranks."""
    torch.set_default_dtype(torch.float64)
    torch.save(steps_of(Mesh(rank, 2), recipe_of(2)), f"{results}/{rank}.pt")


@pytest.fixture
def fp64() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def oracle(recipe: Recipe) -> tuple[list[dict[str, float]], GPT]:
    """The same steps as one would write them for one process: whole batches, torch's loss and plain AdamW."""
    train = recipe.train
    model = GPT(recipe.model)
    initialise(model, recipe.model, recipe.seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(train.beta1, train.beta2),
        eps=train.epsilon,
        foreach=False,
    )
    records = []
    for batch, _ in zip(batches(train, 16), range(STEPS), strict=False):
        inputs, targets = map(torch.from_numpy, windows().batch(batch.first_sample, batch.sequences))
        logits = model(inputs)[..., :VOCAB].flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        norm = sum((p.grad**2).sum() for p in model.parameters()).sqrt()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm or 0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, batch.tokens)
        optimizer.step()
        records.append({"loss": loss.item(), "gradient_norm": norm.item()})
    return records, model


@pytest.mark.usefixtures("fp64")
def test_two_ranks_take_the_steps_of_one_process(tmp_path: Path) -> None:
    wait(start(2, str(tmp_path), rank_main, str(tmp_path)))
    expected, model = oracle(recipe_of(1))
    alone = steps_of(Mesh(), recipe_of(1))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1))
    for records, weights, held_out in (first, second, alone):
        for record, wanted in zip(records, expected, strict=True):
            # 16 digits, less what five steps of Adam (a division by √v) make of the last two or three
            assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-10)
            assert record["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=1e-10)
        for name, value in model.state_dict().items():
            if name != "output.weight":
                torch.testing.assert_close(weights[name], value, rtol=1e-8, atol=1e-10)
        assert held_out == pytest.approx(alone[2], rel=1e-10)
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])
    assert first[2] == second[2]


def test_bf16_micro_batches_add_up_in_fp32_to_the_whole_batch() -> None:
    wide = {"dropout": 0.0, "hidden_size": 64}
    plain = small_recipe(model=wide, batch_ramp=None, clip_norm=None)
    expected, _, _ = steps_of(Mesh(), plain)
    for micro_batch_size in (1, 8):
        recipe = small_recipe(
            model=wide, batch_ramp=None, clip_norm=None, precision="bf16", micro_batch_size=micro_batch_size
        )
        records, weights, _ = steps_of(Mesh(), recipe)
        assert all(value.dtype == torch.float32 for value in weights.values())
        for record, wanted in zip(records, expected, strict=True):
            # bf16 rounds to 2^-9 = 0.002, and the errors of many products partly cancel
            assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-2)
            assert record["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=2e-2)


@pytest.mark.usefixtures("fp64")
def test_a_step_without_a_finite_gradient_moves_nothing() -> None:
    recipe = recipe_of(1)
    run = run_of(Mesh(), recipe)
    with torch.no_grad():
        next(m for m in run.model.masters if m.name == "final_norm.weight").value[0] = torch.nan
    before = weights_of(run)
    record = take_step(run, next(batches(recipe.train, 16)))
    assert record["loss"] is None
    assert run.progress.skipped_steps == 1
    after = weights_of(run)
    assert all(torch.equal(before[name], after[name]) for name in before if "final" not in name)
