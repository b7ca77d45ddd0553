"""Cost of the whole run: days, accelerator-hours, energy and money, with its batch ramp and without its stops.

At each batch of the ramp the step is predicted anew: the layout stays, and a batch that is too small for it is filled
up with samples that do not count (`training.data`). Checkpoints, validation, restarts and lost nodes are not in it.

Energy is TDP × what nodes were measured to draw in training × PUE. A node of eight H100 draws 76 % of its 10.2 kW in
its heaviest training (2506.14551, whose calibrated model errs by 11.4 %): 1.38 times the TDP of its eight GPUs, hosts,
fans and network cards in it. BLOOM's A100s with what the machine drew idle: 1.59 times (2211.02001). The PUE is that
of Jean Zay, 1.2 (2211.02001); the largest clouds reach 1.1, and the average of data centres is above 1.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from megalith.batches import steps_by_batch
from megalith.job import Job
from megalith.recipe import Recipe
from megalith.topology import Accelerator, Cluster

_OF_THE_MOST = 0.76  # of a node's watts in its heaviest training (2506.14551)
NODE_SHARE = _OF_THE_MOST * 10.2e3 / (8 * 700)  # watts of a node for each watt of its accelerators' TDP (2506.14551)
_NODE_SHARE_ERROR = 0.114  # relative (2506.14551)
PUE = 1.2  # Jean Zay (2211.02001)

Interval = tuple[float, float]
StepSeconds = Callable[[Job], float]


@dataclass(frozen=True)
class Totals:
    """A whole run; intervals come from the step time's, the energy's from the power's as well."""

    steps: int
    tokens: int
    seconds: float
    seconds_interval: Interval
    ramp_seconds: float
    """The part of `seconds` before the full batch is reached."""
    accelerator_hours: float
    accelerator_hours_interval: Interval
    energy_kwh: float | None
    """None where the accelerator's TDP is not known."""
    energy_kwh_interval: Interval | None
    money: float | None
    """In the currency of the price; None without one."""
    money_interval: Interval | None

    @property
    def days(self) -> float:
        return self.seconds / 86400

    def figures(self) -> dict[str, Any]:
        """As `--json` has it."""
        return {"days": self.days, **asdict(self), "assumptions": assumptions()}


def run_totals(
    recipe: Recipe,
    job: Job,
    tokens: int,
    step_seconds: StepSeconds,
    interval: Interval,
    *,
    price: float | None = None,
) -> Totals:
    """The run of `tokens` tokens in `job`'s layout.

    `step_seconds` predicts a step of the job that it is given, at any batch; `interval` is the full step's, relative
    to it (0.9, 1.1). `price` is of one accelerator for an hour.
    """
    steps = steps_by_batch(recipe, tokens)
    by_batch = _seconds_by_batch(steps, job, step_seconds)
    seconds = sum(by_batch.values())
    ramp = sum(taken for batch, taken in by_batch.items() if batch < recipe.train.global_batch_size)
    hours = seconds / 3600 * job.accelerators
    low, high = interval
    facts = job.cluster.facts
    energy = _watts(job.cluster, facts) * (job.cluster.pue or PUE) * hours / 1000 if facts else None
    return Totals(
        steps=sum(steps.values()),
        tokens=tokens,
        seconds=seconds,
        seconds_interval=(seconds * low, seconds * high),
        ramp_seconds=ramp,
        accelerator_hours=hours,
        accelerator_hours_interval=(hours * low, hours * high),
        energy_kwh=energy,
        energy_kwh_interval=(
            (energy * low * (1 - _NODE_SHARE_ERROR), energy * high * (1 + _NODE_SHARE_ERROR)) if energy else None
        ),
        money=hours * price if price is not None else None,
        money_interval=(hours * low * price, hours * high * price) if price is not None else None,
    )


def _watts(cluster: Cluster, facts: Accelerator) -> float:
    """Watts that an accelerator draws in training with its part of the node: 76 % of the node's most, or by its TDP."""
    if cluster.node_watts is not None:
        return _OF_THE_MOST * cluster.node_watts / cluster.accelerators_per_node
    return facts.tdp_watts * NODE_SHARE


def assumptions() -> list[str]:
    """Assumptions behind the figures, in words."""
    return [
        f"energy is TDP × {NODE_SHARE:.2f} (nodes of H100 in training, measured in 2506.14551) × PUE {PUE} "
        "(Jean Zay, 2211.02001)",
        "checkpoints, validation, restarts and lost nodes are not counted",
    ]


def _seconds_by_batch(steps: Mapping[int, int], job: Job, step_seconds: StepSeconds) -> dict[int, float]:
    """Seconds spent at each global batch; batches that are filled up alike are predicted once."""
    seconds: dict[int, float] = {}
    for batch in steps:
        filled = job.at_batch(batch)
        if filled.global_batch_size not in seconds:
            seconds[filled.global_batch_size] = step_seconds(filled)
    return {batch: count * seconds[job.at_batch(batch).global_batch_size] for batch, count in steps.items()}
