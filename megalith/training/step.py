"""One training step: the optimizer step of `parallel.step` on the next samples, and its line of the history.

Every data-parallel rank takes its share of the batch, a micro-batch at a time, and adds up the gradients of Σ token
loss ÷ tokens of the whole batch; these are summed over the ranks, clipped by their global norm, and AdamW moves the
fp32 masters. A step whose loss or gradient is not finite moves nothing, on any rank: all of them decide by the same
two numbers.
"""

import math
from typing import Any

from megalith import parallel
from megalith.errors import MegalithError
from megalith.parallel import dropout_seed
from megalith.training.checkpoint import last_sound
from megalith.training.data import Batch, counts, rank_samples, read_samples
from megalith.training.lr_schedule import learning_rate
from megalith.training.run_state import Run

MOST_SKIPPED = 20  # steps in a row without a finite loss and gradient


def take_step(run: Run, batch: Batch) -> dict[str, Any]:
    """Train on one batch; returns its line of the history.

    Raises MegalithError after too many steps in a row that are not finite.
    """
    with run.clock("data"):
        numbers = rank_samples(run.task.recipe, batch, run.ranks)
        shares = [read_samples(run.samples, own, run.micro_batch_size) for own in numbers]
        own = [sum(column) for column in zip(*map(counts, shares), strict=True)]
        reads = run.ranks.index("tensor") == 0 and run.ranks.index("pipeline") == 0  # others read the same samples
        valid = run.ranks.sum(*(count * reads for count in own))
        dropout_seeds = [dropout_seed(run.task.recipe.seed, batch.step, each.start) for each in numbers]
    rate = learning_rate(run.train, batch.tokens)
    done = parallel.take_step(
        run.model,
        run.optimizer,
        shares,
        valid,
        dropout_seeds,
        learning_rate=rate,
        clip_norm=run.train.clip_norm,
        loss_scale=run.scale.scale,
        phase=run.clock,
    )
    record = {
        "step": batch.step,
        "tokens": batch.tokens,
        "loss": _told(sum(done.losses)),
        "learning_rate": rate,
        "gradient_norm": _told(done.gradient_norm),
    }
    if len(done.losses) > 1:
        record |= {
            name.replace(" ", "_"): _told(each) for name, each in zip(run.model.losses, done.losses, strict=True)
        }
    if run.scale.grows:
        record["loss_scale"] = run.scale.scale
    run.scale.update(finite=done.finite)
    _advance(run, batch, record, done.finite)
    return record


def _told(value: float) -> float | None:
    """A value for JSON, which has no word for one that is not finite."""
    return value if math.isfinite(value) else None


def _advance(run: Run, batch: Batch, record: dict[str, Any], finite: bool) -> None:
    progress = run.progress
    progress.step, progress.tokens = batch.step, batch.tokens
    progress.samples = batch.first_sample + batch.sequences
    progress.steps.append(record)
    progress.skipped_steps += not finite
    progress.skipped_in_a_row = 0 if finite else progress.skipped_in_a_row + 1
    if progress.skipped_in_a_row >= MOST_SKIPPED:
        before = last_sound(run.task.checkpoints)
        lower = f"train.learning_rate={run.train.learning_rate / 3:.1g}"
        again = f"pass --branch {before} {lower}, from the last checkpoint before" if before else f"--fresh {lower}"
        raise MegalithError(
            f"the loss or its gradient has not been finite for {MOST_SKIPPED} steps, up to step {batch.step}.",
            where="train.learning_rate",
            mend=f"{run.train.learning_rate:g} is too high for this model: {again}.",
        )
