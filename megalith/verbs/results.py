"""The types that verbs return; those of planning are the dictionaries that `--json` prints (docs/verbs/)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

if TYPE_CHECKING:
    from megalith.tokens.blending import Portion

Interval = Sequence[float]
"""Lower and upper bound."""


@dataclass(frozen=True)
class BlendTable:
    """The part of each data set in a run."""

    recipe: str
    run_tokens: int | None
    maximum_epochs: float
    sizes_from: Literal["shards", "recipe"]
    datasets: tuple["Portion", ...]


class LayoutChoice(TypedDict):
    """A layout on a cluster, as the recipe's sections `parallel` and `train` name it."""

    tensor: int
    pipeline: int
    data: int
    micro_batch_size: int
    virtual_stages: int
    schedule: str
    recompute: str
    recompute_every: int
    sequence_parallel: bool
    zero: int
    zero_shard: int | None
    context: int
    """Ranks that share a sequence."""
    expert: int
    """Ranks that share the experts of a mixture."""


class OtherLayout(LayoutChoice):
    """A layout that lost, and why."""

    kind: str
    step_seconds: float
    tflops_per_gpu: float
    memory_bytes: float
    bubble_fraction: float
    fits: bool
    parts: Mapping[str, float]
    why: str


class RunCost(TypedDict):
    """The whole run in the best layout."""

    days: float
    steps: int
    tokens: int
    seconds: float
    seconds_interval: Interval
    ramp_seconds: float
    accelerator_hours: float
    accelerator_hours_interval: Interval
    energy_kwh: float | None
    energy_kwh_interval: Interval | None
    money: float | None
    money_interval: Interval | None
    assumptions: Sequence[str]


class ClusterLayout(TypedDict):
    """The best layout on a cluster, predicted."""

    cluster: str
    accelerator: str
    accelerators: int
    nodes: int
    objective: str
    best: LayoutChoice
    step_seconds: float
    closed_step_seconds: float
    interval: Interval
    coverage: float
    tflops_per_gpu: float
    mfu: float
    bubble_fraction: float
    parts: Mapping[str, float]
    memory_bytes: float
    memory_interval: Interval
    memory: Mapping[str, float]
    memory_of_accelerator_bytes: float
    run: RunCost
    runners_up: Sequence[OtherLayout]
    candidates_considered: int
    candidates_too_large: int
    candidates_timed: int
    search_seconds: float
    notes: Sequence[str]


class LocalLayout(TypedDict):
    """The best layout on this machine, measured."""

    best: Mapping[str, Any]
    step_seconds: float
    tflops_per_gpu: float
    memory_bytes: float
    memory: Mapping[str, float]
    bubble_fraction: float
    interval: Interval
    runners_up: Sequence[Mapping[str, Any]]
    candidates_considered: int
    search_seconds: float


class MeasuredLayouts(TypedDict):
    """Layouts on this machine as its measured blocks predict them, the fastest first."""

    model: Mapping[str, Any]
    machine: Mapping[str, Any]
    layouts: Sequence[Mapping[str, Any]]
    not_measured: int


class LawIntervals(TypedDict):
    """The intervals of a law's three figures."""

    parameters: Interval | None
    tokens: Interval | None
    loss: Interval | None


class LawRow(TypedDict):
    """One scaling law's answer for a budget. The optional keys are there for GPU-hours; `repetition` and `inference`
    where they are asked for, None for a law without a formula of the loss."""

    law: str
    parameters: float
    tokens: float
    loss: float | None
    loss_note: str | None
    interval: Interval | None
    intervals: LawIntervals
    intervals_from: str
    extrapolated: bool
    source: str
    flops: NotRequired[float]
    flops_interval: NotRequired[Interval]
    mfu: NotRequired[float]
    shape: NotRequired[Mapping[str, Any]]
    best: NotRequired[Mapping[str, Any]]
    step_seconds: NotRequired[float]
    repetition: NotRequired[Mapping[str, Any] | None]
    inference: NotRequired[Mapping[str, Any] | None]


class Budget(TypedDict):
    """Each law's answer. `flops` is there for FLOPs, `hours` for a recipe's hours here, the rest for GPU-hours.

    `run` is the forecast of a run under way, and then there are no laws.
    """

    laws: Sequence[LawRow]
    flops: NotRequired[float]
    hours: NotRequired[float]
    gpu_hours: NotRequired[float]
    cluster: NotRequired[str]
    accelerator: NotRequired[str]
    nodes: NotRequired[int]
    accelerators: NotRequired[int]
    nodes_chosen: NotRequired[bool]
    days: NotRequired[float]
    global_batch_size: NotRequired[int]
    run: NotRequired[Mapping[str, Any]]


class RankMap(TypedDict):
    """Where each rank stands, and what it sends in a step."""

    cluster: str
    accelerator: str
    nodes: int
    accelerators_per_node: int
    layout: Mapping[str, int]
    world: int
    micro_batches: int
    ranks: Sequence[Mapping[str, int]]
    traffic: Sequence[Mapping[str, Any]]
    tiers: Sequence[Mapping[str, Any]]
    notes: Sequence[str]


class ScheduleRow(TypedDict):
    """One schedule's step."""

    schedule: str
    virtual_stages: int
    step_seconds: float
    pipeline_seconds: float
    longest_rank_seconds: float
    reduction_seconds: float
    optimizer_seconds: float
    bubble_fraction: float
    bubble_fractions: Sequence[float]
    in_flight: Sequence[int]
    peak_bytes: Sequence[float] | None
    capacity_bytes: float | None


class StepTimeline(TypedDict):
    """A training step drawn by one or several schedules."""

    recipe: str
    pipeline: int
    micro_batches: int
    clock: Literal["seconds", "forwards"]
    schedules: Sequence[ScheduleRow]
    files: Sequence[str]


class StepPart(TypedDict):
    """A part of a step, from ideal FLOPs on."""

    name: str
    group: str
    seconds: float
    share: float
    why: str


class ExplainedLayout(TypedDict):
    """A layout's step, taken apart."""

    cluster: str
    accelerators: int
    layout: LayoutChoice
    step_seconds: float
    interval: Sequence[float]
    tflops_per_gpu: float
    mfu: float
    memory_bytes: float
    memory_of_accelerator_bytes: float
    parts: Sequence[StepPart]


class StepExplained(TypedDict):
    """Layouts taken apart, and the file in which they are drawn."""

    recipe: str
    """Its name."""
    layouts: Sequence[ExplainedLayout]
    file: str | None


class DryRun(TypedDict):
    """The real step of some ranks on tensors without memory."""

    cluster: str
    accelerator: str
    memory_bytes: float
    layout: Mapping[str, int]
    world: int
    micro_batch_size: int | None
    micro_batches: int
    parameters: int
    parameters_by_arithmetic: int
    fits: bool
    ranks: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    seconds: float


class Validation(TypedDict):
    """Predictions against measured runs."""

    table: str
    constants: Mapping[str, Any]
    datasets: Sequence[Mapping[str, Any]]
    stacks: Sequence[Mapping[str, Any]]
    random_half: Mapping[str, Any] | None
    generations: Sequence[Mapping[str, Any]]
    """Figures of each generation of accelerators, runs in fp8 apart."""
    overall: Mapping[str, Any]
    memory: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    skipped: Sequence[Mapping[str, str]]
