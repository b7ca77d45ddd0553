"""One training step: the optimizer step of `parallel.step` on the next samples, and its line of the history.

Every data-parallel rank takes its share of the batch, a micro-batch at a time, and adds up the gradients of Σ token
loss ÷ tokens of the whole batch; these are summed over the ranks, clipped by their global norm, and AdamW moves the
fp32 masters. A step whose loss or gradient is not finite, or whose loss is a spike, moves nothing, on any rank: all of
them decide by the same two numbers. The first of such steps is played again, to tell where it comes from.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from megalith import parallel
from megalith.console import note
from megalith.errors import MegalithError
from megalith.parallel import MicroBatch, Outcome, dropout_seed
from megalith.training.ahead import Ahead
from megalith.training.checkpoint import last_sound
from megalith.training.data import Batch, batches, counts, rank_samples, read_samples
from megalith.training.diagnosis import Diagnosis, diagnose
from megalith.training.lr_schedule import learning_rate
from megalith.training.run_state import GoBack, Run
from megalith.training.spikes import SKIPPED, is_spike

MOST_SKIPPED = 20  # steps in a row without a finite loss and gradient


def take_step(run: Run, batch: Batch) -> dict[str, Any]:
    """Train on one batch; returns its line of the history.

    `run.back` then says whether the run is to go on from an earlier checkpoint. Raises MegalithError after too many
    steps in a row that are not finite, ResourceError for a rank that computes wrongly again and again.
    """
    rate = learning_rate(run.train, batch.tokens)

    def accepts(loss: float) -> bool:
        return not is_spike(run.train, run.progress.steps, loss)

    asks: Callable[[], bool] = cache(run.asked_to_stop)  # once a step, however often it is played

    def attempt(turn: int) -> Outcome:
        with run.clock("data"):
            numbers = rank_samples(run.task.recipe, batch, run.ranks, turn)
            shares = _read(run, batch, turn) if turn or run.ahead is None else run.ahead.take(batch, following)
            valid = _counted(run, shares)
            valid += valid[: len(run.model.losses) - len(valid)]  # a z-loss is over the tokens, too
            dropout_seeds = [dropout_seed(run.task.recipe.seed, batch.step, each.start) for each in numbers]
        return parallel.take_step(
            run.model,
            run.optimizer,
            shares,
            valid,
            dropout_seeds,
            learning_rate=rate,
            clip_norm=run.train.clip_norm,
            loss_scale=run.scale.scale,
            phase=run.pace or run.clock,
            accepts=_never if turn else accepts,
            asks=asks,
        )

    following = _following(run, batch)
    done, found = attempt(0), None
    run.stop = done.asked
    is_overflow = run.scale.grows and not done.finite  # which the loss scale expects
    if not (done.taken or is_overflow or run.progress.skipped_in_a_row):
        found = diagnose(run, batch, done, attempt, accepts)
        done = found.outcome
    record = _record(run, batch, rate, done)
    run.scale.update(finite=done.finite)
    _advance(run, batch, record, done.finite)
    if found is not None:
        _tell(run, batch, found, done)
    return record


def _never(loss: float) -> bool:
    return False


def _read(run: Run, batch: Batch, turn: int = 0) -> list[MicroBatch]:
    numbers = rank_samples(run.task.recipe, batch, run.ranks, turn)
    return [read_samples(run.samples, own, run.micro_batch_size) for own in numbers]


def read_ahead(run: Run) -> Ahead:
    """The reader of a run's samples, a step ahead where that pays."""
    return Ahead(partial(_read, run), run.ranks.device)


def _following(run: Run, batch: Batch) -> Batch | None:
    """The step after this one, if it is as planned."""
    length, after = run.task.recipe.model.sequence_length, batch.first_sample + batch.sequences
    return next(batches(run.train, length, step=batch.step, samples=after, tokens=batch.tokens), None)


def _counted(run: Run, shares: Sequence[MicroBatch]) -> list[float]:
    """The number of terms of each kind of loss in the whole batch; processors exchange it, no GPU is waited for."""
    own = [sum(column) for column in zip(*map(counts, shares), strict=True)]
    return run.ranks.sum(*(count * run.ranks.is_first_reader for count in own))


def _record(run: Run, batch: Batch, rate: float, done: Outcome) -> dict[str, Any]:
    """The line of the history."""
    record: dict[str, Any] = {
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
    if done.finite and not done.taken:
        record[SKIPPED] = "spike"
    return record


def _tell(run: Run, batch: Batch, found: Diagnosis, done: Outcome) -> None:
    """Put the cause of a step that was not taken at first into the history, and ask to go back where that helps.

    Weights that are not finite heal no more: a checkpoint before has better ones.
    """
    what = "taken the second time" if done.taken else "a loss spike" if done.finite else "not finite"
    event: dict[str, Any] = {"step": batch.step, "event": what, "cause": found.kind, "ranks": list(found.ranks)}
    if found.worst is not None:
        event["worst"] = found.worst
    run.progress.events.append(event)
    if run.ranks.is_rank_zero:
        note(f"step {batch.step:,} was {what}: {found.words}.")
    after = batch.first_sample + batch.sequences
    if found.kind == "weights":
        broken = MegalithError(f"at step {batch.step} {found.words}, and no checkpoint before it stands.")
        run.back = GoBack(None, broken)
    elif done.finite and not done.taken and run.train.on_spike == "roll_back":
        run.back = GoBack(after)


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
