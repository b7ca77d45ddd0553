"""Why a candidate lost to the winner: what it holds too much, or which parts of its step are longer.

Percentages are of the winner's step.
"""

from megalith.console import human_bytes
from megalith.job import Job
from megalith.planning.search.candidate import Candidate

_TOLD = 0.005  # parts of the difference below this share of the step are not told
_MOST_PARTS = 3


def why(other: Candidate, best: Candidate) -> str:
    """In a line: memory first, then time by its parts, the largest first."""
    behind = other.seconds / best.seconds - 1
    if not other.fits:
        then = f"; {pace(behind)} if it fitted" if abs(behind) >= _TOLD else ""
        return f"memory over by {human_bytes(-other.spare_bytes)} ({_fullest(other)}){then}"
    if best.is_sure_to_fit and not other.is_sure_to_fit:
        there = human_bytes(other.job.cluster.memory_bytes)
        return f"may hold up to {human_bytes(other.most_bytes)}, and there are {there}; {pace(behind)} if it fits"
    parts = _differences(other, best)
    if behind < 0 < other.merit - best.merit:
        node, wide = other.job.cluster.accelerators_per_node, other.job.layout.tensor
        parts.append(f"but groups of {wide} cross nodes of {node}, which hardly any measured run did")
    if behind < _TOLD and not parts:
        held, for_ = human_bytes(other.memory_bytes), human_bytes(best.memory_bytes)
        return f"as fast, and holds {'as much' if held == for_ else f'{held} for {for_}'}"
    return f"{pace(behind)}: {', '.join(parts)}" if parts else pace(behind)


def pace(behind: float) -> str:
    """How far behind the winner, in words."""
    if abs(behind) < _TOLD:
        return "as fast"
    return f"{abs(behind):.1%} {'slower' if behind > 0 else 'faster'}"


def _fullest(candidate: Candidate) -> str:
    """The largest parts of what its fullest accelerator holds."""
    parts = sorted(candidate.estimate_memory.worst.parts.items(), key=lambda part: -part[1])[:2]
    return ", ".join(f"{name} {human_bytes(size)}" for name, size in parts)


def _differences(other: Candidate, best: Candidate) -> list[str]:
    """The parts that take longer, the largest first; then the largest gain, if there is one."""
    names = dict.fromkeys([*best.step.parts, *other.step.parts])
    shares = {name: (other.step.parts.get(name, 0.0) - best.step.parts.get(name, 0.0)) / best.seconds for name in names}
    ranked = sorted(shares, key=lambda name: -shares[name])
    worse = [name for name in ranked if shares[name] >= _TOLD][:_MOST_PARTS]
    better = [name for name in reversed(ranked) if shares[name] <= -_TOLD][:1]
    return [f"{name} {shares[name]:+.1%}{_cause(name, other.job, best.job)}" for name in [*worse, *better]]


def _cause(part: str, job: Job, best: Job) -> str:
    """The setting of the layout that makes the part longer, where one can be named."""
    node = job.cluster.accelerators_per_node
    if "tensor" in part and job.layout.tensor > node >= best.layout.tensor:
        return f" (groups of {job.layout.tensor} cross nodes of {node})"
    if "bubble" in part and (job.micro_batches, job.layout.pipeline) != (best.micro_batches, best.layout.pipeline):
        return f" ({job.layout.pipeline} stages, {job.micro_batches} micro-batches)"
    return ""
