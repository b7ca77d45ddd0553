"""Where a step comes from that must not be taken: it is played again before the weights move.

What does not come again was transient: a rank computed wrongly once, and the step is taken as it came the second time.
What comes again goes with the samples or with the rank that computes them: the data-parallel ranks exchange their
micro-batches, and it is seen which. (Megatron-LM's re-run state machine compares one rank with itself.)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from megalith.errors import ResourceError
from megalith.parallel import Outcome
from megalith.training.data import Batch, counts, rank_samples, read_samples
from megalith.training.run_state import Run

Attempt = Callable[[int], Outcome]
"""The step with the micro-batches dealt out that many ranks further; only as they were dealt do they move weights."""
Kind = Literal["transient", "weights", "data", "unclear"]


@dataclass(frozen=True)
class Diagnosis:
    """The cause of a step that was not taken at first."""

    kind: Kind
    ranks: tuple[int, ...]
    """Those at fault, where it is a rank's and can be told."""
    outcome: Outcome
    """The attempt that counts."""
    worst: dict[str, Any] | None = None
    """The samples of the micro-batch with the highest loss, where they may be the cause."""

    @property
    def words(self) -> str:
        """The cause in words."""
        where = f"rank {', '.join(map(str, self.ranks))}" if self.ranks else "a rank that cannot be told"
        samples = "samples {} to {}".format(*self.worst["samples"]) if self.worst else "samples"
        return {
            "transient": f"it did not come again: {where} had computed wrongly once",
            "weights": f"the weights of {where} are not finite",
            "data": f"it goes with the {samples}, on whichever rank",
            "unclear": f"it comes again with the {samples}, and whether with their rank cannot be told",
        }[self.kind]


def diagnose(run: Run, batch: Batch, first: Outcome, attempt: Attempt, accepts: Callable[[float], bool]) -> Diagnosis:
    """Play a step again that was not taken. Every rank must call it.

    Raises ResourceError for a rank that computes wrongly again and again.
    """
    again = attempt(0)
    before, now = _reports(run, first), _reports(run, again)
    if again.taken or not _is_same(first, again):
        return Diagnosis("transient", _at_fault(before), again)
    broken = tuple(rank for rank, report in enumerate(now) if not report["weights"])
    if broken:
        return Diagnosis("weights", broken, again)
    worst = _worst(run, batch)
    if run.ranks.data_size == 1:
        return Diagnosis("unclear", (), again, worst)
    exchanged = attempt(1)
    stayed, moved = _places(now), _places(_reports(run, exchanged))
    if again.finite:
        follows = not accepts(sum(exchanged.losses))
    elif not stayed or len(stayed) == run.ranks.data_size:
        return Diagnosis("unclear", (), again, worst)
    else:
        follows = moved != stayed
    if follows:
        return Diagnosis("data", (), again, worst)
    where = f"rank {', '.join(map(str, _at_fault(now)))}" if _at_fault(now) else "one rank"
    raise ResourceError(
        f"at step {batch.step} {where} computes wrongly again and again, of samples with which other ranks do well.",
        mend="Leave its machine out; the same command goes on from the last checkpoint.",
    )


def _is_same(one: Outcome, other: Outcome) -> bool:
    """Whether two attempts gave the same bits; what is not finite is like itself.

    Where train.deterministic is off the same samples give nearly the same.
    """
    near = 0.0 if torch.are_deterministic_algorithms_enabled() else 1e-2
    pairs = zip([*one.losses, one.gradient_norm], [*other.losses, other.gradient_norm], strict=True)
    return all(math.isclose(a, b, rel_tol=near) or not (math.isfinite(a) or math.isfinite(b)) for a, b in pairs)


def _reports(run: Run, outcome: Outcome) -> list[dict[str, Any]]:
    """Whether each rank's weights, and its own part of the attempt, are finite."""
    weights = all(bool(m.value.isfinite().all()) for m in run.model.masters)
    own = bool(outcome.own_sum.isfinite()) if outcome.own_sum is not None else outcome.finite
    return run.ranks.gather({"own": own, "weights": weights, "data": run.ranks.data_index})


def _at_fault(reports: Sequence[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(rank for rank, report in enumerate(reports) if not report["own"])


def _places(reports: Sequence[dict[str, Any]]) -> set[int]:
    """The data-parallel places of the ranks at fault."""
    return {report["data"] for report in reports if not report["own"]}


def _worst(run: Run, batch: Batch) -> dict[str, Any]:
    """The micro-batch with the highest loss a token; one that is not a number counts as the highest."""
    own: list[tuple[range, float, float]] = []
    for numbers in rank_samples(run.task.recipe, batch, run.ranks):
        samples = read_samples(run.samples, numbers, run.micro_batch_size)
        own.append((numbers, float(run.model.evaluate([samples])[0]), counts(samples)[0]))
    nats: dict[range, float] = {}
    predicted: dict[range, float] = {}
    for numbers, value, count in (each for rank in run.ranks.gather(own) for each in rank):
        nats[numbers] = nats.get(numbers, 0.0) + value  # one rank of those that computed it has the sum
        predicted[numbers] = count
    losses = {numbers: nats[numbers] / predicted[numbers] for numbers in nats if predicted[numbers]}
    worst = max(losses, key=lambda numbers: math.inf if math.isnan(losses[numbers]) else losses[numbers])
    loss = losses[worst]
    return {"samples": [worst.start, worst.stop - 1], "loss": loss if math.isfinite(loss) else None}
