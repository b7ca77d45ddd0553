"""From a recipe to its steps: the layout, the lists that training would run, and how long each action takes.

Durations and bytes are the planner's (`planning.performance`), or durations that the user gives, to look
at a schedule alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megalith import schedules
from megalith.errors import RecipeError
from megalith.job import Job
from megalith.planning.budget import sized
from megalith.planning.performance import predict_step
from megalith.planning.performance.memory import StageMemory, estimate_memory
from megalith.planning.timeline.step import Clock, Held, Step, Timing
from megalith.recipe import ParallelConfig, Recipe
from megalith.schedules import Action, Op, action_lists
from megalith.topology import check_layout, describe, layout_of

UNIT = "unit"
_MEND = "Pass forward, input gradient and weight gradient of a rank's layers in milliseconds, such as 50,55,45, and a "
_MEND += f"send's too if you like; or {UNIT}."


@dataclass(frozen=True)
class Given:
    """Durations that the user gives, of all layers of a rank on one micro-batch: a virtual stage takes its share."""

    forward_seconds: float
    input_gradient_seconds: float
    weight_gradient_seconds: float
    send_seconds: float = 0.0
    clock: Clock = field(default="seconds", kw_only=True)

    def timing(self, pipeline: int, virtual_stages: int) -> Timing:
        """For every stage the same."""
        each = {
            Op.FORWARD: self.forward_seconds / virtual_stages,
            Op.INPUT_GRADIENT: self.input_gradient_seconds / virtual_stages,
            Op.WEIGHT_GRADIENT: self.weight_gradient_seconds / virtual_stages,
        }
        stages = pipeline * virtual_stages
        return Timing([each] * stages, [self.send_seconds] * (stages - 1), clock=self.clock)


MOST_BLOCKS = 100_000
"""Forwards of all stages in one picture; MT-NLG's step has 5,600."""


def given_durations(text: str) -> Given:
    """The durations that `--durations` names. Raises RecipeError where they cannot be."""
    if text == UNIT:
        return Given(1.0, 1.0, 1.0, clock="forwards")
    try:
        numbers = [float(word) / 1000 for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 4) or not all(0 <= number < float("inf") for number in numbers) or not sum(numbers[:3]):
        raise RecipeError(f"{text!r} gives no durations.", where="--durations", mend=_MEND)
    return Given(*numbers)


def steps_of(recipe: Recipe, wanted: Sequence[str] = (), given: Given | None = None) -> list[Step]:
    """A step of the recipe's layout by each schedule of `wanted`: names, or CSV files; without any, the recipe's own.

    Without `given` durations, time and memory are predicted; with them, memory is counted in micro-batches.

    Raises RecipeError for a layout or a schedule that is left open or cannot be, InputError for a file that cannot be
    read.
    """
    own = recipe.parallel
    named = wanted or [str(own.schedule_file) if own.schedule_file else own.schedule]
    return [_step(recipe, name, given) for name in named]


def job_of(recipe: Recipe, schedule: str) -> Job:
    """The job of the recipe's layout with this schedule, a name or a CSV file.

    A micro-batch size that is left open is taken for 1. Raises RecipeError as `steps_of` does.
    """
    parallel = _by(recipe.parallel, schedule)
    model = sized(recipe).model
    cluster = describe(recipe.cluster)
    check_layout(cluster, layout_of(parallel), model, parallel, recipe.train)
    return Job.of(recipe.model_copy(update={"model": model, "parallel": parallel}), cluster)


def _step(recipe: Recipe, name: str, given: Given | None) -> Step:
    job = job_of(recipe, name)
    blocks = job.micro_batches * job.layout.pipeline * job.virtual_stages
    if blocks > MOST_BLOCKS:
        raise RecipeError(
            f"a step of {job.micro_batches:,} micro-batches over {job.layout.pipeline * job.virtual_stages} stages is "
            f"too long to draw ({blocks:,} blocks; {MOST_BLOCKS:,} at most).",
            where="train.global_batch_size",
            mend="Lower it, or raise parallel.data or train.micro_batch_size.",
        )
    lists = action_lists(_by(recipe.parallel, name), job.micro_batches, training=True)
    whole = tuple(tuple(own) for own in lists)
    label = Path(name).name
    if given is not None:
        return Step(label, whole, given.timing(job.layout.pipeline, job.virtual_stages), None)
    return Step(label, whole, _predicted(job), _held(job))


def _by(parallel: ParallelConfig, name: str) -> ParallelConfig:
    """The recipe's section with this schedule. One that knows no virtual stages has one stage a rank."""
    if name.endswith(".csv"):
        return parallel.model_copy(update={"schedule_file": Path(name)})
    if name not in schedules.NAMES:
        mend = f"Use one of {', '.join(schedules.NAMES)}, or a CSV file."
        raise RecipeError(f"schedule {name!r} is not known.", where="--schedule", mend=mend)
    virtual_stages = parallel.virtual_stages if name.startswith("interleaved") else 1
    return parallel.model_copy(update={"schedule": name, "schedule_file": None, "virtual_stages": virtual_stages})


def _predicted(job: Job) -> Timing:
    """As the cost model has it. What ranks wait for slower ones is a share of the whole step: all actions have it."""
    step = predict_step(job)
    slower = step.seconds / (step.seconds - step.parts.get("stragglers", 0.0))
    return Timing(
        [{op: slower * seconds for op, seconds in stage.items()} for stage in step.durations],
        [slower * seconds for seconds in step.send_seconds],
        slower * (step.parts["data communication"] + step.parts["tied embeddings"]),
        slower * step.parts["optimizer"],
    )


def _held(job: Job) -> Held:
    """As the memory model has it at the peak of each rank, shared out over the micro-batches that are there then.

    Activations come with a forward; what a backward needs (logits, what is computed again, gradients that wait for
    their weights') comes with it.
    """
    pipeline = job.layout.pipeline
    lists = schedules.build(job.schedule, pipeline, job.virtual_stages, job.micro_batches)
    ranks = estimate_memory(job).stages
    counts = zip(ranks, schedules.in_flight(lists), map(_backwards_at_once, lists), strict=True)
    each, beside = zip(
        *((rank.parts["activations"] / flying, _beside(rank) / open_ones) for rank, flying, open_ones in counts),
        strict=True,
    )
    holders = [schedules.holder(stage, pipeline) for stage in range(pipeline * job.virtual_stages)]
    return Held(
        [rank.allocated_bytes - rank.parts["activations"] - _beside(rank) for rank in ranks],
        [each[rank] for rank in holders],
        [beside[rank] for rank in holders],
        job.cluster.memory_bytes,
    )


def _beside(rank: StageMemory) -> float:
    return rank.parts["logits"] + rank.parts["working"]


def _backwards_at_once(actions: Sequence[Action]) -> int:
    """The most micro-batches that are between the begin of their backward and the end of their weight gradient."""
    now = most = 0
    for action in actions:
        now += (action.op is Op.INPUT_GRADIENT) - (action.op is Op.WEIGHT_GRADIENT)
        most = max(most, now)
    return max(1, most)
