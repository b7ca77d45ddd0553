"""The layout on this machine's accelerators: one process each, in the precision that they multiply, timed on them.

Candidates come from the models of time and memory where the accelerator's datasheet is known; of an unknown one they
are those that its memory holds, the least spread first. The first few are then run, and the fastest is taken: a search
that looks at thousands, and a measurement that has the last word.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from megalith.arithmetic import step_flops
from megalith.console import human_bytes
from megalith.errors import RecipeError, ResourceError
from megalith.job import Job, Recompute, Schedule, Zero
from megalith.machine import Accelerators, accelerators, total_memory_bytes
from megalith.planning.budget import Machines
from megalith.planning.measuring.layout_trials import LocalLayout, Tell, Trial, threads_of, time_steps
from megalith.planning.measuring.workers import Workers
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.search import Evaluator, Question, best_layout, kept
from megalith.planning.search.branch_and_bound import least_memory_candidates
from megalith.planning.search.request import question_of
from megalith.planning.search.space import Place, Space
from megalith.precision import Precision
from megalith.recipe import ClusterConfig, ModelConfig, Recipe
from megalith.topology import LOCAL, Cluster, Layout, describe, known_clusters, node_of, this_machine

MOST_TIMED = 3  # candidates that are run
NEAR = 1.15  # times the predicted best: what is slower by more is not run
MOST_SECONDS = 600.0  # for one candidate: to draw the weights, and to compile, takes longest
ENOUGH_TOKENS, MOST_TOKENS = 4_096, 65_536  # of a micro-batch: fewer are slow, and more gain nothing


@dataclass(frozen=True)
class AcceleratorLayout(LocalLayout):
    """One way to run the step on this machine's accelerators."""

    virtual_stages: int = 1
    schedule: Schedule = "1f1b"
    recompute: Recompute = "none"
    recompute_every: int = 1
    sequence_parallel: bool = False
    zero: Zero = 0
    zero_shard: int | None = None

    @classmethod
    def of(cls, job: Job) -> "AcceleratorLayout":
        own = {name: getattr(job, name) for name in _OWN}
        return cls(
            job.layout.data, threads_of(job.layout.world), job.micro_batch_size, job.precision, job.layout.tensor,
            job.layout.pipeline, job.layout.context, **own,
        )  # fmt: skip

    @property
    def chosen(self) -> dict[str, Any]:
        return super().chosen | {name: getattr(self, name) for name in _OWN}

    def __str__(self) -> str:
        spread = f"tensor {self.tensor} × pipeline {self.pipeline} × data {self.data}"
        spread += f" × context {self.context}" if self.context > 1 else ""
        more = [f"ZeRO {self.zero}"] * bool(self.zero) + [f"recompute {self.recompute}"] * (self.recompute != "none")
        return ", ".join([spread, *more, f"micro-batches of {self.micro_batch_size}", self.precision])


_OWN = tuple(name for name in AcceleratorLayout.__annotations__)


@dataclass(frozen=True)
class Found:
    """The best layout, what it was preferred to, and how many were looked at."""

    trials: list[Trial]
    considered: int


def node_here(recipe: Recipe) -> Cluster | None:
    """This machine's accelerators as a node, with the links and rates of the known one that they make up.

    Of a recipe's own cluster, if this machine is one of its nodes and it asks for one alone. None where there are no
    accelerators, or other ones than the recipe asks for.
    """
    found = accelerators()
    if found is None:
        return None
    if recipe.cluster.name != LOCAL:
        asked = describe(recipe.cluster)
        here = node_of(found, [asked])
        return asked if here and asked.nodes == 1 and asked.accelerators <= found.count else None
    return _node(found)


def node_of_card(found: Accelerators) -> Cluster:
    """One of the accelerators alone, with the rates of its datasheet where that is known."""
    return replace(_node(found), accelerators_per_node=1)


def _node(found: Accelerators) -> Cluster:
    known = node_of(found, [describe(ClusterConfig(name=name)) for name in known_clusters() if name != LOCAL])
    return known or this_machine()


def worlds(recipe: Recipe, node: Cluster) -> list[int]:
    """Numbers of processes to try, the most first: what the recipe's axes make, or up to one an accelerator.

    Raises RecipeError where the recipe asks for more than there are.
    """
    parallel = recipe.parallel
    given = [size for size in (parallel.tensor, parallel.pipeline, parallel.data) if size]
    least = math.prod(given) * (parallel.context or 1)
    shared = " × context" if (parallel.context or 1) > 1 else ""
    if least > node.accelerators:
        raise RecipeError(
            f"tensor × pipeline × data{shared} is {least} processes, and this machine has {node.accelerators} × "
            f"{node.accelerator}: one process trains on each.",
            where="parallel",
            mend=f"Set a layout of {node.accelerators} or fewer, or hide the GPUs with CUDA_VISIBLE_DEVICES= to train "
            "on the CPU.",
        )
    if len(given) == 3:
        return [least]
    if recipe.cluster.name != LOCAL:
        return [node.accelerators]
    return [world for world in range(node.accelerators, 0, -1) if world % least == 0]


def search_accelerators(recipe: Recipe, node: Cluster, workers: Workers, *, tell: Tell = lambda line: None) -> Found:
    """The layouts that were run, the fastest first, of a sized recipe.

    Raises ResourceError where the model fits in no layout, or none could be run, RecipeError where no layout can be.
    """
    jobs, considered = _candidates(recipe, node)
    trials: list[Trial] = []
    failed: list[Trial] = []
    for number, job in enumerate(jobs[:MOST_TIMED]):
        trial = Trial(AcceleratorLayout.of(job), allocated_bytes(job))
        tell(f"measuring {trial.layout}")
        try:
            if number or job.layout.world != len(workers.processes):
                workers.restart(job.layout.world)  # weights and connections go with the process that held them
            trials.append(time_steps(trial, recipe, job.parallel, workers, MOST_SECONDS))
        except ResourceError as error:
            failed.append(replace(trial, why=f"not measured: {error.what}"))
            tell(f"{trial.layout}: {failed[-1].why}")
    if not trials:
        raise ResourceError(
            f"no layout could be run on this machine's {node.accelerator}: "
            f"{failed[0].why.removeprefix('not measured: ')}",
            mend="Use a smaller train.micro_batch_size, or set the layout with parallel.*.",
        )
    best, *others = sorted(trials, key=lambda trial: trial.step_seconds)
    rows = [replace(best, why=f"chosen: the fastest of {len(trials)} that were run")]
    rows += [replace(o, why=f"{100 * (o.step_seconds / best.step_seconds - 1):.0f} % slower") for o in others]
    return Found([*rows, *failed], considered)


def machines_here(recipe: Recipe, node: Cluster, workers: Workers) -> Machines:
    """This machine as a budget in hours needs it: a model's best layout, predicted, or run where nothing is known."""

    def reach(model: ModelConfig) -> float:
        asked = recipe.model_copy(update={"model": model})
        jobs, _ = _candidates(asked, node)
        if node.facts is not None:
            seconds = Evaluator().step(jobs[0]).seconds
        else:
            trial = Trial(AcceleratorLayout.of(jobs[0]))
            seconds = time_steps(trial, asked, jobs[0].parallel, workers, MOST_SECONDS).step_seconds
        return step_flops(model, recipe.train.global_batch_size) / seconds

    rate = peak_of(node, precision_here(recipe), workers)
    return Machines(rate * max(worlds(recipe, node)), reach)


def memory_here(recipe: Recipe) -> int:
    """Bytes that training may take on this machine: those of all its accelerators, or else of its processors."""
    node = node_here(recipe)
    return total_memory_bytes() if node is None else int(node.accelerators * node.memory_bytes)


def peak_of(node: Cluster, precision: Precision, workers: Workers) -> float:
    """FLOPs per second of one accelerator's products: its datasheet's, or of one that a worker measures."""
    if node.facts is not None:
        return node.facts.peak(precision)
    (answer,) = workers.ask({"ask": "product", "precision": precision}, seconds=MOST_SECONDS)
    return float(answer["flops_per_second"])


def precision_here(recipe: Recipe) -> Precision:
    """The recipe's, or bf16 where this machine's accelerators multiply it, and fp16 elsewhere."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    found = accelerators()
    return "fp16" if found is not None and not found.bf16 else "bf16"


def _candidates(recipe: Recipe, node: Cluster) -> tuple[list[Job], int]:
    """Jobs to run, the best first, and how many were considered.

    On all accelerators, or the most that the recipe's batch and model can be dealt to; one alone is the default that
    the others have to beat. Raises ResourceError where none fits.
    """
    counts = worlds(recipe, node)
    considered = 0
    found: list[Job] = []
    for world in counts:
        jobs, count = _on(recipe, node, world)
        considered += count
        found += jobs
        if jobs:
            break
    if found and found[0].layout.world > 1 and 1 in counts:
        jobs, count = _on(recipe, node, 1)
        considered += count
        found = [*found[: MOST_TIMED - 1], *jobs[:1]]
    if not found:
        raise _nothing_fits(recipe, node)
    return found, considered


def _on(recipe: Recipe, node: Cluster, world: int) -> tuple[list[Job], int]:
    """The jobs on so many accelerators that fit, the best first, and how many were considered."""
    question = _question(recipe, replace(node, accelerators_per_node=world))
    if node.facts is None:
        return by_memory(question)
    best = best_layout(question, Evaluator(sure=True)) or best_layout(question, Evaluator())
    if best is None:
        space = Space(question)
        return [], sum(space.size(place) for place in space.places())
    near = [other for other in best.searched.best if other.seconds <= NEAR * best.closed.seconds]
    others = [other.job for other in near if other.job != best.best.job]
    return [best.best.job, *others], best.searched.considered


def _question(recipe: Recipe, node: Cluster) -> Question:
    keep = kept(recipe, {}, written=True)
    parallel = recipe.parallel
    if all((parallel.tensor, parallel.pipeline, parallel.data)):
        keep.discard("parallel.schedule_file")  # `parallel.schedule` stands for it
    question = question_of(recipe, node, keep, to_train=True)
    return replace(question, precision=precision_here(recipe))


def by_memory(question: Question) -> tuple[list[Job], int]:
    """One job for each layout of the axes, the least spread first: the first way to save with which it fits.

    Nothing is known of times, so the ways are in the order of what they cost as a rule: to shard, to compute again, and
    last a micro-batch that is small.
    """
    space, evaluator = Space(question), Evaluator(sure=True)
    jobs: list[Job] = []
    considered = 0
    for layout in sorted(space.layouts(), key=lambda layout: layout.replica):
        for job in _thriftier(space, layout):
            considered += 1
            if evaluator.fits(job):
                jobs.append(job)
                break
    return jobs, considered


def _thriftier(space: Space, layout: Layout) -> Iterator[Job]:
    length = space.question.model.sequence_length
    sizes = [size for size in space.micro_batch_sizes(layout) if size * length <= max(length, MOST_TOKENS)]
    enough = [size for size in sizes if size * length >= ENOUGH_TOKENS] or sizes[-1:]
    for some in (enough, [size for size in sizes if size not in enough]):
        for saving in space.savings:
            for sharding in space.shardings(layout):
                for place in (Place(layout, size) for size in reversed(some)):
                    orders = space.orders(place)
                    for order in [each for each in orders if each.schedule == "1f1b"] or orders[:1]:
                        for split in space.splits(layout)[:1]:
                            yield space.job(place, order, saving, split, sharding)


def allocated_bytes(job: Job) -> dict[str, int]:
    """Bytes that all processes allocate, by part: what training measures of a GPU, so without CUDA's own."""
    of_a_stage = job.layout.world // job.layout.pipeline
    parts: dict[str, float] = {}
    for stage in estimate_memory(job).stages:
        for name, held in stage.parts.items():
            parts[name] = parts.get(name, 0.0) + of_a_stage * held
    return {name: round(held) for name, held in parts.items() if name != "context" and held}


def _nothing_fits(recipe: Recipe, node: Cluster) -> ResourceError | RecipeError:
    world = max(worlds(recipe, node))
    space = Space(_question(recipe, replace(node, accelerators_per_node=world)))
    jobs = [job for place in space.smallest_places() for job in least_memory_candidates(space, place)]
    if not jobs:
        return RecipeError(
            f"no layout that parallel.* and train.micro_batch_size leave open is one of {world} processes that share "
            f"a batch of {recipe.train.global_batch_size}.",
            where="parallel",
            mend="Leave more of them open, or set a train.global_batch_size that they divide.",
        )
    held = {job: estimate_memory(job).worst.device_bytes for job in jobs}
    least = min(jobs, key=lambda job: held[job])
    return ResourceError(
        f"no layout fits: the one that holds least ({AcceleratorLayout.of(least)}) takes {human_bytes(held[least])} of "
        f"each {node.accelerator}'s {human_bytes(node.memory_bytes)}.",
        mend="Use a smaller model or a shorter model.sequence_length, or more accelerators: cluster.name=dgx-h100 "
        "cluster.nodes=N plans them.",
    )
