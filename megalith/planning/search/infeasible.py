"""For a request that cannot be: the reason, and the nearest one that can.

Nearest is said in two ways: which single setting of the recipe to leave open, and how many nodes it takes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from megalith.arithmetic import state_bytes
from megalith.console import human_bytes
from megalith.errors import MegalithError, RecipeError, ResourceError
from megalith.job import Job
from megalith.planning.search.branch_and_bound import least_memory_candidates
from megalith.planning.search.candidate import Evaluator
from megalith.planning.search.space import SECTIONS, Question, Space, choice
from megalith.topology import Cluster

MOST_NODES = 4096  # looked at, where a cluster does not say how many it has
_TRIED = 512  # numbers of nodes

Resize = Callable[[int], Cluster]
"""The cluster with another number of nodes."""


def impossible(question: Question, evaluator: Evaluator, resize: Resize) -> MegalithError:
    """Why nothing fits `question`, and what would."""
    space = Space(question)
    job = _leanest(space, evaluator)
    mends = [*_openings(question, evaluator), *_other_nodes(question, evaluator, resize, below=job is None)]
    other = "a smaller model or a shorter model.sequence_length" if job else "give another number of nodes"
    mend = f"{'; or '.join(mends) or other}."
    mend = mend[0].upper() + mend[1:]
    if job is None:
        return RecipeError(_no_sizes(question), where="cluster.nodes", mend=mend)
    worst = evaluator.memory(job).worst
    over = worst.device_bytes - question.cluster.memory_bytes
    parts = sorted(worst.parts.items(), key=lambda part: -part[1])[:3]
    layout = job.layout
    return ResourceError(
        f"no layout fits: the one that holds least (tensor {layout.tensor} × pipeline {layout.pipeline} × data "
        f"{layout.data}, micro-batch {job.micro_batch_size}, recompute {job.recompute}, ZeRO {job.zero}) takes "
        f"{human_bytes(worst.device_bytes)} of each {question.cluster.accelerator}'s "
        f"{human_bytes(question.cluster.memory_bytes)}, {human_bytes(over)} too much: "
        f"{', '.join(f'{name} {human_bytes(size)}' for name, size in parts)}.",
        where="cluster.nodes",
        mend=mend,
    )


def fits_somewhere(space: Space, evaluator: Evaluator) -> Job | None:
    """A job of the space that fits, if there is one."""
    return next((job for job in _thrifty(space) if evaluator.fits(job)), None)


def _thrifty(space: Space) -> Iterator[Job]:
    """For each layout the jobs that hold least."""
    for place in space.smallest_places():
        yield from least_memory_candidates(space, place)


def _leanest(space: Space, evaluator: Evaluator) -> Job | None:
    return min(_thrifty(space), key=lambda job: evaluator.memory(job).worst.device_bytes, default=None)


def _openings(question: Question, evaluator: Evaluator) -> Iterator[str]:
    """Which fixed setting, left open alone, would make something fit."""
    for knob, value in question.fixed.items():
        rest = {name: other for name, other in question.fixed.items() if name != knob}
        job = fits_somewhere(Space(replace(question, fixed=rest)), evaluator)
        if job is not None:
            now = choice(job, knob)
            if now is None:
                yield f"leave out {SECTIONS[knob]}.{knob}={value}"
            elif now != value:
                yield f"give {SECTIONS[knob]}.{knob}={now} in place of {value}"


def _other_nodes(question: Question, evaluator: Evaluator, resize: Resize, *, below: bool) -> Iterator[str]:
    """The fewest nodes beyond those given at which something fits, and the most below them."""
    cluster = question.cluster
    most = cluster.most_nodes or MOST_NODES
    least = math.ceil(state_bytes(question.model) / cluster.memory_bytes / cluster.accelerators_per_node)
    above = range(max(cluster.nodes + 1, least), most + 1)
    for nodes in above[:_TRIED]:
        job = fits_somewhere(Space(replace(question, cluster=resize(nodes))), evaluator)
        if job is not None:
            layout = job.layout
            yield (
                f"give cluster.nodes={nodes}, the fewest beyond {cluster.nodes} at which something fits (tensor "
                f"{layout.tensor} × pipeline {layout.pipeline} × data {layout.data}, recompute {job.recompute})"
            )
            break
    lower = range(max(1, least, cluster.nodes - _TRIED), cluster.nodes) if below else range(0)
    for nodes in reversed(lower):
        if fits_somewhere(Space(replace(question, cluster=resize(nodes))), evaluator) is not None:
            yield f"give cluster.nodes={nodes}, the most below {cluster.nodes}"
            break


def _no_sizes(question: Question) -> str:
    model, world = question.model, question.cluster.accelerators
    fixed = ", ".join(f"{knob} {value}" for knob, value in question.fixed.items())
    given = f" with {fixed}" if fixed else ""
    return (
        f"no tensor × pipeline × data{given} makes {world:,} accelerators: tensor must divide {model.heads} heads, "
        f"data a batch of {question.global_batch_size}, and pipeline is {model.most_stages} at most, for "
        f"{model.layers} layers."
    )
