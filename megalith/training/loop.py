"""The training loop: a step at a time from the newest checkpoint to the last token.

One step: every rank takes its share of the batch, a micro-batch at a time, and adds up Σ token loss ÷ tokens of the
whole batch; the gradients are summed over the ranks, clipped by their global norm, and AdamW moves the fp32 weights.
A step whose loss or gradient is not finite moves nothing.
"""

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megalith.arithmetic import flops_per_token
from megalith.errors import MegalithError
from megalith.model import GPT, initialise
from megalith.parallel import Gradients, Ranks
from megalith.recipe import TrainConfig
from megalith.tokens import IGNORE, Shards, TrainingWindows, ValidationWindows
from megalith.training import checkpoint
from megalith.training.checkpoint import Progress
from megalith.training.job import Job, Stopped
from megalith.training.monitor import Monitor, watch
from megalith.training.optimizer import load_optimizer_state, make_optimizer, optimizer_state, update
from megalith.training.schedule import Batch, batches, learning_rate
from megalith.training.validation import unigram_entropy, validation_loss

MOST_SKIPPED = 20  # steps in a row without a finite loss and gradient


@dataclass
class Run:
    """All that lives while a model is trained."""

    job: Job
    ranks: Ranks
    model: GPT
    optimizer: torch.optim.AdamW
    gradients: Gradients
    progress: Progress
    windows: TrainingWindows
    validation: ValidationWindows

    @property
    def train(self) -> TrainConfig:
        return self.job.recipe.train

    @property
    def micro_batch_size(self) -> int:
        return self.train.micro_batch_size or 1


def run(job: Job, ranks: Ranks, asked_to_stop: Callable[[], bool]) -> dict[str, Any]:
    """Train to the end and return what was measured.

    `asked_to_stop` is asked after each step. Raises Stopped when any rank's said yes and the state has been saved,
    MegalithError when the run diverges.
    """
    state = begin(job, ranks)
    resumed_at = state.progress.step or None
    plan = list(batches(state.train, job.recipe.model.sequence_length))
    flops = flops_per_token(job.recipe.model)
    with _monitor(job, ranks, flops, len(plan), state.progress.step) as monitor:
        for batch in islice(plan, state.progress.step, None):
            start = time.perf_counter()
            record = take_step(state, batch)
            if monitor:
                monitor.step(record, batch.sequences * state.windows.sequence_length, time.perf_counter() - start)
            last = batch.step == len(plan)
            if last or batch.step % state.train.validation_interval == 0:
                _validate(state, monitor)
            (stop,) = ranks.sum(asked_to_stop())
            if last or stop or batch.step % state.train.checkpoint_interval == 0:
                save(state, keep=1 if last else state.train.checkpoints_kept)
            if stop and not last:
                raise Stopped
        if monitor:
            monitor.describe("Validating")
        whole = validation_loss(
            state.model, state.validation, len(state.validation), state.micro_batch_size, ranks, precision(state.train)
        )
    return {
        "steps": state.progress.step,
        "tokens": state.progress.tokens,
        "validation_loss": whole,
        "unigram_entropy": unigram_entropy(state.validation, job.recipe.model.vocab_size),
        "skipped_steps": state.progress.skipped_steps,
        "resumed_at_step": resumed_at,
    }


def begin(job: Job, ranks: Ranks) -> Run:
    """The state of the newest checkpoint, or the state before the first step."""
    recipe = job.recipe
    model = GPT(recipe.model)
    found = checkpoint.newest(job.checkpoints, job.run)
    if found is None:
        initialise(model, recipe.seed)
    else:
        model.load_state_dict(found.model)
    optimizer = make_optimizer(model, recipe.train)
    if found is not None:
        load_optimizer_state(model, optimizer, found.optimizer)
    length = recipe.model.sequence_length
    return Run(
        job,
        ranks,
        model.train(),
        optimizer,
        Gradients(model.parameters()),
        found.progress if found else Progress(run=job.run),
        TrainingWindows(Shards(job.tokens / "train").stream, length, recipe.seed),
        ValidationWindows(Shards(job.tokens / "validation").stream, length),
    )


def take_step(run: Run, batch: Batch) -> dict[str, Any]:
    """Train on one batch; returns its line of the history."""
    torch.manual_seed(_dropout_seed(run.job.recipe.seed, batch.step, run.ranks.rank))
    shares = [_tensors(*run.windows.batch(first, run.micro_batch_size)) for first in _micro_batches(run, batch)]
    (valid,) = run.ranks.sum(sum(int((targets != IGNORE).sum()) for _, targets in shares))
    run.gradients.zero()
    own_loss = 0.0
    with precision(run.train):  # its cache keeps the weights that it casts for all micro-batches
        for tokens, targets in shares:
            loss = run.model.loss(tokens, targets) / valid
            with torch.autocast("cpu", enabled=False):
                torch.autograd.backward(loss)
            own_loss += float(loss.detach())
    run.gradients.sum_over(run.ranks)
    (loss_value,) = run.ranks.sum(own_loss)
    norm = run.gradients.norm()
    rate = learning_rate(run.train, batch.tokens)
    finite = math.isfinite(loss_value) and math.isfinite(norm)
    if finite:
        run.gradients.clip(norm, run.train.clip_norm)
        update(run.optimizer, rate)
    record = {
        "step": batch.step,
        "tokens": batch.tokens,
        "loss": loss_value if math.isfinite(loss_value) else None,
        "learning_rate": rate,
        "gradient_norm": norm if math.isfinite(norm) else None,
    }
    _advance(run, batch, record, finite)
    return record


def save(run: Run, keep: int) -> None:
    """Write a checkpoint of this moment, and remove those that are too many."""
    if run.ranks.leads:
        checkpoint.save(
            run.job.checkpoints, run.progress, run.model.state_dict(), optimizer_state(run.model, run.optimizer)
        )
        checkpoint.prune(run.job.checkpoints, keep)


def precision(train: TrainConfig) -> AbstractContextManager[object]:
    """The context in which the model is computed: bf16 by autocast, or plain fp32."""
    if train.precision == "bf16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def _monitor(
    job: Job, ranks: Ranks, flops: float, total_steps: int, step: int
) -> AbstractContextManager[Monitor | None]:
    if not ranks.leads:
        return nullcontext()
    return watch(job.logs, flops, job.peak_flops_per_second, total_steps=total_steps, step=step)


def _validate(run: Run, monitor: Monitor | None) -> None:
    count = run.train.validation_sequences
    loss = validation_loss(run.model, run.validation, count, run.micro_batch_size, run.ranks, precision(run.train))
    record = {"step": run.progress.step, "tokens": run.progress.tokens, "loss": loss}
    run.progress.validation.append(record)
    if monitor:
        monitor.validation(record)


def _advance(run: Run, batch: Batch, record: dict[str, Any], finite: bool) -> None:
    progress = run.progress
    progress.step, progress.tokens = batch.step, batch.tokens
    progress.samples = batch.first_sample + batch.sequences
    progress.steps.append(record)
    progress.skipped_steps += not finite
    progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
    if progress.skipped_in_a_row >= MOST_SKIPPED:
        raise MegalithError(
            f"the loss or its gradient has not been finite for {MOST_SKIPPED} steps, up to step {batch.step}.",
            where="train.learning_rate",
            mend=f"{run.train.learning_rate:g} is too high for this model: try {run.train.learning_rate / 3:.1g}.",
        )


def _micro_batches(run: Run, batch: Batch) -> range:
    """The first sample of each of this rank's micro-batches."""
    size = run.micro_batch_size
    first = batch.first_sample + run.ranks.rank * size
    return range(first, batch.first_sample + batch.sequences, size * run.ranks.count)


def _tensors(inputs: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/dropout/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
