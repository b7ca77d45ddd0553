"""The space of layouts: every size, schedule and setting that a model allows on a cluster.

The limits are those of `topology.check_layout` and of training, so that what is found here can be run: all accelerators
are used, heads and the MLP's columns are split evenly, no pipeline stage but the first and the last is without layers,
the batch is whole micro-batches on every replica, and interleaving takes micro-batches in whole rounds. What the
question fixes has one choice.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from megalith.batches import micro_batches
from megalith.job import ZERO_STAGES, Job, Recompute, Schedule, Zero
from megalith.precision import Fp8, Precision
from megalith.recipe import ModelConfig, Recipe
from megalith.topology import AXES, Cluster, Layout, trains_context

KNOBS = (
    "tensor", "pipeline", "data", "micro_batch_size", "virtual_stages", "schedule", "recompute", "recompute_every",
    "sequence_parallel", "zero", "zero_shard", "context", "expert",
)  # fmt: skip
"""Settings that may be fixed, by the recipe's names."""
SECTIONS = {knob: "train" if knob == "micro_batch_size" else "parallel" for knob in KNOBS}
"""Where a recipe has each knob."""
LONG = 32_768  # tokens of a sequence from which on ranks may share it, unasked
WIDEST_TENSOR = 64  # a group of more spans eight nodes and more; the time is long past its best
EVERY = (8, 6, 4, 3, 2, 1)  # recompute each n-th layer


@dataclass(frozen=True)
class Question:
    """A model and a batch looking for a layout on a cluster."""

    model: ModelConfig
    cluster: Cluster
    global_batch_size: int
    """Sequences."""
    precision: Precision = "bf16"
    compiled: bool = False
    """Compiled layers cannot run the zero-bubble schedules."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Knobs that are not to be chosen, by the names in KNOBS."""
    context_method: Literal["ring", "all_to_all"] = "all_to_all"
    optimizer_state: Literal["fp32", "int8"] = "fp32"
    offload_optimizer: bool = False
    fp8: Fp8 | None = None
    tensor_overlap: bool = False
    cuda_graphs: bool = False


class Order(NamedTuple):
    """In which order a pipeline works."""

    schedule: Schedule
    virtual_stages: int


class Recomputation(NamedTuple):
    """Activations that are computed again rather than kept."""

    recompute: Recompute
    every: int = 1


class Sharding(NamedTuple):
    """A ZeRO stage and the ranks that it shards over; None is all of the data axis."""

    zero: Zero
    shard: int | None = None


class Place(NamedTuple):
    """Where the search branches first: the axes and the micro-batch."""

    layout: Layout
    micro_batch_size: int
    expert: int = 1

    @property
    def axes(self) -> tuple[Layout, int]:
        """All that says which rank does what."""
        return self.layout, self.expert


@dataclass(frozen=True)
class Space:
    """All layouts for a question."""

    question: Question

    def places(self) -> Iterator[Place]:
        """Every layout of the axes that the model and the batch allow, with every micro-batch size."""
        for layout, expert in self.axes():
            for size in self.micro_batch_sizes(layout):
                yield Place(layout, size, expert)

    def smallest_places(self) -> Iterator[Place]:
        """Every layout of the axes with its smallest micro-batch."""
        for layout, expert in self.axes():
            for size in self.micro_batch_sizes(layout)[:1]:
                yield Place(layout, size, expert)

    def axes(self) -> Iterator[tuple[Layout, int]]:
        """Every layout of the axes, with the ranks that share the experts."""
        for layout in self.layouts():
            for expert in self.experts(layout):
                yield layout, expert

    @cached_property
    def contexts(self) -> list[int]:
        """Ranks that may share a sequence: one, unless it is long or the question says otherwise; the causal mask of a
        ring wants two parts a rank."""
        asked = self.question
        length, world = asked.model.sequence_length, asked.cluster.accelerators
        most = world if "context" in asked.fixed else max(1, 2 * length // LONG)
        parts = 2 if asked.context_method == "ring" else 1
        able = [size for size in divisors(world) if size <= most and (size == 1 or length % (parts * size) == 0)]
        return self._allowed("context", able)

    def experts(self, layout: Layout) -> list[int]:
        """Ranks that may share the experts of a mixture."""
        able = divisors(math.gcd(self.question.model.experts or 1, layout.data))
        return self._allowed("expert", able)

    def layouts(self) -> Iterator[Layout]:
        """Every layout of the four axes that makes up the cluster and divides the model and the batch."""
        for context in self.contexts:
            if self.question.cluster.accelerators % context == 0:
                yield from self._layouts(context)

    def _layouts(self, context: int) -> Iterator[Layout]:
        asked = self.question
        world = asked.cluster.accelerators // context
        heads = asked.model.heads // (context if asked.context_method == "all_to_all" else 1)
        for tensor in self._allowed("tensor", self.tensors):
            if world % tensor or heads % tensor:
                continue
            for pipeline in self._allowed("pipeline", divisors(world // tensor)):
                if world % (tensor * pipeline) or pipeline > asked.model.most_stages:
                    continue
                data = world // (tensor * pipeline)
                if asked.fixed.get("data", data) == data and asked.global_batch_size % data == 0:
                    yield Layout(tensor, pipeline, data, context)

    def micro_batch_sizes(self, layout: Layout) -> list[int]:
        """From the smallest; each divides a replica's share of the batch."""
        share = self.question.global_batch_size // layout.data
        return self._allowed("micro_batch_size", divisors(share))

    def orders(self, place: Place) -> list[Order]:
        """The schedules that the pipeline can run; without a pipeline there is nothing to order."""
        asked, fixed = self.question, self.question.fixed
        pipeline = place.layout.pipeline
        count = micro_batches(asked.global_batch_size, place.layout.data, place.micro_batch_size)
        if pipeline == 1:
            orders = [Order("1f1b", 1)]
            return orders if fixed.get("virtual_stages", 1) == 1 else []
        orders = [Order("gpipe", 1), Order("1f1b", 1), Order("zb-h1", 1)]
        if count % pipeline == 0:
            orders += [Order("interleaved-1f1b", virtual) for virtual in self._virtual_stages(pipeline)]
        return [
            order
            for order in orders
            if fixed.get("schedule", order.schedule) == order.schedule
            and fixed.get("virtual_stages", order.virtual_stages) == order.virtual_stages
            and not (order.schedule == "zb-h1" and asked.compiled)
        ]

    def _virtual_stages(self, pipeline: int) -> list[int]:
        """From 2: of those whose largest stage has as many layers the fewest, since the others only send more."""
        model, fixed = self.question.model, self.question.fixed.get("virtual_stages")
        most = model.most_stages // pipeline
        if fixed is not None:
            return [fixed] if 1 < fixed <= most else []
        fewest: dict[int, int] = {}
        for virtual in range(2, most + 1):
            fewest.setdefault(-(-model.layers // (pipeline * virtual)), virtual)
        return list(fewest.values())

    @cached_property
    def savings(self) -> list[Recomputation]:
        """From the cheapest in time to the cheapest in memory."""
        fixed = self.question.fixed
        own = fixed.get("recompute_every")
        every = [own] if own else [n for n in EVERY if n <= self.question.model.layers]
        choices = [
            Recomputation("none", own or 1),
            Recomputation("selective", own or 1),
            *(Recomputation("full", n) for n in every),
        ]
        return [choice for choice in choices if fixed.get("recompute", choice.recompute) == choice.recompute]

    def splits(self, layout: Layout) -> list[bool]:
        """Whether the residual stream may be split along the sequence; better so, where it can be."""
        able = layout.tensor > 1 and self.question.model.sequence_length % (layout.tensor * layout.context) == 0
        fixed = self.question.fixed.get("sequence_parallel")
        if fixed is not None:
            return [fixed] if able or not fixed or layout.tensor == 1 else []
        return [True, False] if able else [False]

    def shardings(self, layout: Layout) -> list[Sharding]:
        """ZeRO's stages, where gradients are added up; also sharded over a node's ranks alone, where there are more."""
        fixed, cluster, ranks = self.question.fixed, self.question.cluster, layout.gradient_ranks
        near = cluster.accelerators_per_node // layout.tensor
        shards: list[int | None] = [None]
        if "zero_shard" in fixed:
            shards = [fixed["zero_shard"]] if ranks % fixed["zero_shard"] == 0 else []
        elif 1 < near < ranks and ranks % near == 0:
            shards = [None, near]
        stages = self._allowed("zero", list(ZERO_STAGES))[: None if ranks > 1 else 1]
        return [Sharding(zero, shard) for zero in stages for shard in (shards if zero else shards[:1])]

    def job(self, place: Place, order: Order, saving: Recomputation, split: bool, sharding: Sharding) -> Job:
        """The job of these choices."""
        asked = self.question
        return Job(
            asked.model,
            asked.cluster,
            place.layout,
            place.micro_batch_size,
            asked.global_batch_size,
            order.virtual_stages,
            order.schedule,
            saving.recompute,
            saving.every,
            split,
            sharding.zero,
            sharding.shard,
            precision=asked.precision,
            context_method=asked.context_method,
            expert=place.expert,
            optimizer_state=asked.optimizer_state,
            offload_optimizer=asked.offload_optimizer,
            fp8=asked.fp8,
            tensor_overlap=asked.tensor_overlap,
            cuda_graphs=asked.cuda_graphs,
        )

    def size(self, place: Place) -> int:
        """Candidates at a place."""
        choices = (self.orders(place), self.savings, self.splits(place.layout), self.shardings(place.layout))
        return math.prod(len(choice) for choice in choices)

    @cached_property
    def tensors(self) -> list[int]:
        """Sizes of a tensor group that split heads and columns evenly."""
        model = self.question.model
        return [size for size in divisors(math.gcd(model.heads, model.ffn_hidden)) if size <= WIDEST_TENSOR]

    def _allowed(self, knob: str, choices: list[Any]) -> list[Any]:
        """The choices, or what is fixed where it is one of them."""
        fixed = self.question.fixed
        if knob not in fixed:
            return choices
        return [fixed[knob]] if fixed[knob] in choices else []


def trained_only(recipe: Recipe) -> dict[str, Any]:
    """Knobs of which training takes one value alone, with that (`topology.refuse_planned_settings`)."""
    alone = {} if trains_context(recipe.model, recipe.parallel) else {"context": 1}
    return {"expert": 1} | alone


def choice(job: Job, knob: str) -> Any:
    """A job's value of a knob."""
    return getattr(job.layout if knob in AXES else job, knob)


def divisors(number: int) -> list[int]:
    """Divisors of a positive number, from 1."""
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return small + [number // size for size in reversed(small) if size * size != number]
