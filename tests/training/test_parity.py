"""Two ranks against an independent single process, in fp64: five steps, with unequal counts of targets."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from numpy.typing import NDArray
from torch.nn import functional as F

from megalith.model import GPT, initialise
from megalith.parallel import Gradients, Ranks
from megalith.recipe import Recipe
from megalith.tokens import IGNORE, TrainingWindows, ValidationWindows
from megalith.training.checkpoint import Progress
from megalith.training.job import Job
from megalith.training.loop import Run, take_step
from megalith.training.optimizer import make_optimizer
from megalith.training.schedule import batches, learning_rate
from megalith.training.validation import validation_loss
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


def steps_of(ranks: Ranks, recipe: Recipe) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor], float]:
    """What `take_step` gives: its records, the parameters after it, and a validation loss."""
    model = GPT(recipe.model)
    initialise(model, recipe.seed)
    validation = ValidationWindows(np.random.default_rng(2).integers(0, VOCAB, 333), 16)
    job = Job(recipe=recipe, tokens=Path(), workspace=Path(), run="", threads=1, peak_flops_per_second=None)
    optimizer, gradients = make_optimizer(model, recipe.train), Gradients(model.parameters())
    run = Run(job, ranks, model, optimizer, gradients, Progress(run=""), windows(), validation)
    records = [take_step(run, batch) for batch, _ in zip(batches(recipe.train, 16), range(STEPS), strict=False)]
    held_out = validation_loss(model, validation, len(validation), 2, ranks, nullcontext())
    return records, dict(model.state_dict()), held_out


def rank_main(rank: int, store: str, results: str) -> None:
    """One of two ranks."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(steps_of(Ranks(rank, 2), recipe_of(2)), f"{results}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture
def fp64() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def oracle(recipe: Recipe) -> tuple[list[dict[str, float]], GPT]:
    """The same steps as one would write them for one process: whole batches, torch's loss and plain AdamW."""
    train = recipe.train
    model = GPT(recipe.model)
    initialise(model, recipe.seed)
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
        for parameter in model.parameters():  # torch's clip_grad_norm_ divides by the norm + 1e-6
            parameter.grad *= min(1.0, (train.clip_norm or 0) / norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(train, batch.tokens)
        optimizer.step()
        records.append({"loss": loss.item(), "gradient_norm": norm.item()})
    return records, model


@pytest.mark.usefixtures("fp64")
def test_two_ranks_take_the_steps_of_one_process(tmp_path: Path) -> None:
    mp.spawn(rank_main, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    expected, model = oracle(recipe_of(1))
    alone = steps_of(Ranks(), recipe_of(1))
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
    expected, _, _ = steps_of(Ranks(), plain)
    for micro_batch_size in (1, 8):
        recipe = small_recipe(
            model=wide, batch_ramp=None, clip_norm=None, precision="bf16", micro_batch_size=micro_batch_size
        )
        records, weights, _ = steps_of(Ranks(), recipe)
        assert all(value.dtype == torch.float32 for value in weights.values())
        for record, wanted in zip(records, expected, strict=True):
            # bf16 rounds to 2^-9 = 0.002, and the errors of many products partly cancel
            assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-2)
            assert record["gradient_norm"] == pytest.approx(wanted["gradient_norm"], rel=2e-2)


@pytest.mark.usefixtures("fp64")
def test_a_step_without_a_finite_gradient_moves_nothing() -> None:
    recipe = recipe_of(1)
    model = GPT(recipe.model)
    initialise(model, 0)
    with torch.no_grad():
        model.final_norm.weight[0] = torch.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    job = Job(recipe=recipe, tokens=Path(), workspace=Path(), run="", threads=1, peak_flops_per_second=None)
    optimizer, gradients = make_optimizer(model, recipe.train), Gradients(model.parameters())
    run = Run(job, Ranks(), model, optimizer, gradients, Progress(run=""), windows(), None)  # type: ignore[arg-type]
    record = take_step(run, next(batches(recipe.train, 16)))
    assert record["loss"] is None
    assert run.progress.skipped_steps == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items() if "final" not in name)
