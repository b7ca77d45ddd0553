"""The result of `megalith plan layout` for a cluster: the best layout, the whole run in it, and why the others lost."""

import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from megalith.arithmetic import parameters
from megalith.console import human_bytes
from megalith.errors import InputError, RecipeError
from megalith.job import Job
from megalith.planning.budget import sized
from megalith.planning.performance import Constants
from megalith.planning.performance.constants import generation_of, of_generation, read_constants
from megalith.planning.performance.run_cost import Totals
from megalith.planning.search.candidate import Candidate, Evaluator
from megalith.planning.search.explain import pace, why
from megalith.planning.search.objectives import Answer, Objective, Request, best_for, why_none
from megalith.planning.search.one_change import one_change, place_of
from megalith.planning.search.request import question_of, tokens_of
from megalith.planning.search.space import KNOBS, Question, choice
from megalith.recipe import Recipe
from megalith.topology import Cluster, check_layout, describe

MORE = 0.005  # of the memory: less is not told


def cluster_layout(
    recipe: Recipe,
    *,
    keep: Collection[str] = (),
    objective: Objective = "time",
    deadline_days: float | None = None,
    price: float | None = None,
    constants: Path | None = None,
    to_train: bool = False,
) -> dict[str, Any]:
    """The best layout of the recipe's model on its cluster; the keys are those of `--json`.

    `keep` names what the recipe says that is not to be searched, as `parallel.tensor`. `objective` is the shortest
    step, the least memory, or the fewest accelerators; the run must be over within `deadline_days`, where they are
    given. `price` is of one accelerator for an hour. `constants` is a file that `plan calibrate` wrote, in place of the
    shipped constants. `to_train` asks for a layout that training takes. Raises RecipeError or ResourceError, with the
    nearest that can be, where there is no such layout, InputError for a file that knows nothing of the accelerator.
    """
    start = time.perf_counter()
    if deadline_days is not None and not deadline_days > 0:
        raise RecipeError(f"no run ends within {deadline_days:g} days.", where="--deadline", mend="Set more.")
    if objective == "gpus" and deadline_days is None:
        raise RecipeError(
            "the fewest GPUs are those that end in time.", where="--for gpus", mend="Set --deadline DAYS."
        )
    recipe = sized(recipe)
    deadline = math.inf if deadline_days is None else deadline_days
    cluster = describe(recipe.cluster)
    request = Request(recipe, tokens_of(recipe), objective, deadline, price or cluster.price_per_hour)
    known = None if constants is None else _calibrated(constants, cluster)
    found, totals = _best(request, question_of(recipe, cluster, keep, to_train=to_train), known)
    others = _others(recipe, found)
    figures = _figures(request, found, totals, others, time.perf_counter() - start)
    if constants is not None:
        figures["notes"].append(f"predicted by the constants of {constants}")
    return figures


def _calibrated(path: Path, cluster: Cluster) -> Constants:
    sets = read_constants(path)
    generation = generation_of(cluster)
    if generation not in sets:
        raise InputError(
            f"this file has no constants of {generation}, which {cluster.name} is made of.",
            where=str(path),
            mend=f"It has {', '.join(sets)}: calibrate with runs on {generation}, or leave --constants out.",
        )
    return of_generation(generation, Job.stack, sets)


def _best(request: Request, question: Question, constants: Constants | None) -> tuple[Answer, Totals]:
    """The best that is sure to fit; where none is, the best that is more likely to fit than not."""
    likely = Evaluator(constants=constants)
    found = best_for(request, question, Evaluator(sure=True, constants=constants)) or best_for(
        request, question, likely
    )
    if found is None:
        raise why_none(request, question, likely)
    return found


def _figures(
    request: Request, found: Answer, totals: Totals, others: list[tuple[str, Candidate]], seconds: float
) -> dict[str, Any]:
    best, step = found.best, found.best.step
    job = best.job
    return {
        "cluster": job.cluster.name,
        "accelerator": job.cluster.accelerator,
        "accelerators": job.accelerators,
        "nodes": job.cluster.nodes,
        "objective": request.objective,
        "best": choices(job),
        "step_seconds": step.seconds,
        "closed_step_seconds": found.closed.seconds,
        "interval": list(step.interval),
        "coverage": step.coverage,
        "tflops_per_gpu": step.tflops_per_gpu,
        "mfu": step.mfu,
        "bubble_fraction": step.bubble_fraction,
        "parts": dict(step.parts),
        "memory_bytes": best.memory_bytes,
        "memory_interval": list(best.estimate_memory.interval),
        "memory": _held(best),
        "memory_of_accelerator_bytes": job.cluster.memory_bytes,
        "run": totals.figures(),
        "runners_up": [_row(kind, other, found, request.objective) for kind, other in others],
        "candidates_considered": found.searched.considered,
        "candidates_too_large": found.searched.too_large,
        "candidates_timed": found.evaluator.timed,
        "search_seconds": seconds,
        "notes": [
            *job.cluster.notes,
            *_checked(job, request.recipe),
            *_close(best, request),
            *_unmeasured(job),
            *assumed(job),
        ],
    }


def _checked(job: Job, recipe: Recipe) -> list[str]:
    """Notes on the job as the recipe's layout. Raises RecipeError where it cannot be."""
    train = recipe.train.model_copy(update={"micro_batch_size": job.micro_batch_size})
    return check_layout(job.cluster, job.layout, job.model, job.parallel, train)


def _held(best: Candidate) -> dict[str, float]:
    """Bytes of the fullest accelerator, by parts."""
    parts = dict(best.estimate_memory.worst.parts)
    return parts | {"reserved, not in use": max(0.0, best.memory_bytes - sum(parts.values()))}


def _close(best: Candidate, request: Request) -> list[str]:
    """A word of warning where the memory may turn out to be more than there is."""
    if best.is_sure_to_fit:
        return []
    most, there = human_bytes(best.most_bytes), human_bytes(best.job.cluster.memory_bytes)
    others = "no layout is sure to fit" + ("" if math.isinf(request.deadline_days) else " and to end in time")
    return [f"it may turn out to hold up to {most}, and there are {there}; {others}."]


def _unmeasured(job: Job) -> list[str]:
    """A word of warning where no run stands behind the prediction."""
    node = job.cluster.accelerators_per_node
    if job.layout.tensor <= node:
        return []
    return [
        f"tensor groups of {job.layout.tensor} cross nodes of {node}, and hardly any published run did that: the "
        f"interval does not know it. To keep within nodes: parallel.tensor={node}."
    ]


def assumed(job: Job) -> list[str]:
    """Assumptions behind settings that no published run has been held against."""
    told = []
    if job.model.experts:
        told.append("each expert is taken to get as many tokens as any other, and nothing hides their all-to-all")
    if job.layout.context > 1:
        told.append("the mask's work is taken to be even over the context axis; no published run is behind it")
    if job.fp8 is not None:
        told.append("the layers' products are taken to be in fp8, and no less to be kept for them than in bf16")
    if job.tensor_overlap and job.layout.tensor > 1:
        told.append("the tensor axis is taken to send beside the products, as Megatron-Core and torchtitan can")
    if job.cuda_graphs:
        told.append("a layer's kernels are taken to be launched together")
    if job.offload_optimizer:
        host = job.cluster.host_memory_bytes
        need = host_bytes(job)
        have = "" if host is None else f" of {human_bytes(host)}"
        told.append(
            f"the optimizer takes {human_bytes(need)}{have} of a node's memory, over links of 25 GB/s and "
            "a host's memory of 300 GB/s (assumed)"
        )
        if host is not None and need > host:
            told.append("that does not fit into the node's memory: leave parallel.offload_optimizer out")
    return told


def host_bytes(job: Job) -> float:
    """Masters and moments of a node's ranks in its memory: 12 bytes a parameter, sharded by ZeRO."""
    ranks = min(job.cluster.accelerators_per_node, job.accelerators)
    copies = job.layout.gradient_ranks // job.shard_ranks
    return 12.0 * parameters(job.model).total * copies * ranks / job.accelerators


def choices(job: Job) -> dict[str, Any]:
    """The settings that identify a layout, by the recipe's names."""
    return {knob: choice(job, knob) for knob in KNOBS}


def _row(kind: str, other: Candidate, found: Answer, objective: Objective) -> dict[str, Any]:
    said = why(other, found.closed)
    more = other.memory_bytes - found.closed.memory_bytes
    if objective == "memory" and other.fits and more > MORE * found.closed.memory_bytes:
        said = f"holds {human_bytes(more)} more; {said}"
    if other.job in found.played:
        said = f"{pace(found.played[other.job] / found.best.seconds - 1)} when played; by the closed form {said}"
    return {
        "kind": kind,
        **choices(other.job),
        "step_seconds": other.seconds,
        "tflops_per_gpu": other.step.tflops_per_gpu,
        "memory_bytes": other.memory_bytes,
        "bubble_fraction": other.step.bubble_fraction,
        "fits": other.fits,
        "parts": dict(other.step.parts),
        "why": said,
    }


def _others(recipe: Recipe, found: Answer) -> list[tuple[str, Candidate]]:
    """The recipe's own layout, the best of each other layout of the axes, and the winner with one thing changed."""
    own = _own(recipe, found)
    rows = [("recipe", own)] if own else []
    rows += [
        ("layout", other) for other in found.searched.best if place_of(other.job).axes != place_of(found.best.job).axes
    ]
    rows += [("change", other) for other in one_change(found.space, found.evaluator, found.best.job)]
    return rows


def _own(recipe: Recipe, found: Answer) -> Candidate | None:
    """The layout that the recipe has, its data axis made to fill the cluster; None if it has none or it cannot be."""
    parallel, best = recipe.parallel, found.best.job
    if parallel.tensor is None or parallel.pipeline is None or parallel.schedule_file is not None:
        return None
    replica = parallel.tensor * parallel.pipeline * (parallel.context or 1)
    if best.cluster.accelerators % replica:
        return None
    data = best.cluster.accelerators // replica
    shard = parallel.zero_shard if data * (parallel.context or 1) % (parallel.zero_shard or 1) == 0 else None
    filled = parallel.model_copy(update={"data": data, "zero_shard": shard})
    job = Job.of(recipe.model_copy(update={"parallel": filled}), best.cluster)
    if choices(job) == choices(best):
        return None
    try:
        _checked(job, recipe)
    except RecipeError:
        return None
    return found.evaluator.weigh(job)
