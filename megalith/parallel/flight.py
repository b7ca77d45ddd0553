"""The collective that a rank has entered last in each of its groups, and the one that it waits for.

torch's flight recorder keeps them for gloo and NCCL alike, in memory and without a synchronisation. It does not see
gloo's sends and receives: those of a pipeline are read off the stack of the thread that waits for them.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch._C import _distributed_c10d as c10d

from megalith.parallel.mesh import AXES, Mesh

_P2P_WAIT, _P2P_ACTION = "_wait_batch_p2p", "_perform_action"


@dataclass(frozen=True)
class Collective:
    """One that a rank has entered."""

    kind: str
    """As torch names it: all_reduce, reduce_scatter, …"""
    axis: str
    """The axis of the mesh, or `all ranks`."""
    ranks: tuple[int, ...]
    """Those that it takes."""
    number: int | None
    """Among those of its group, the same on every rank; None for what passes between two stages."""
    since: float
    """Seconds since 1970."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.axis}, ranks {', '.join(map(str, self.ranks))})"


def entered(ranks: Mesh, *, besides: dist.ProcessGroup | None = None) -> tuple[list[Collective], Collective | None]:
    """The last collective that this rank entered in each of its groups, and the first that has not ended.

    The group `besides` is left out: that in which checkpoints are written behind the training.
    """
    groups = _groups(ranks)
    if besides is not None:
        groups.pop(besides.group_name, None)
    last: dict[str, Collective] = {}
    waits: Collective | None = None
    for entry in _entries():
        name = entry["process_group"][0]
        if name not in groups:
            continue
        axis, members = groups[name]
        kind = entry["profiling_name"].partition(":")[2]
        number = None if entry["is_p2p"] else entry["collective_seq_id"]
        found = Collective(kind, axis, members, number, entry["time_created_ns"] / 1e9)
        if number is not None:
            last[name] = found
        if waits is None and not (entry["retired"] or entry["state"] == "completed"):
            waits = found
    return list(last.values()), waits


def awaited_stage(ranks: Mesh, thread: int, since: float) -> Collective | None:
    """The message of another pipeline stage that a thread waits for; None where it waits for no such thing."""
    frame: FrameType | None = sys._current_frames().get(thread)
    is_waiting = False
    while frame is not None:
        is_waiting |= frame.f_code.co_name == _P2P_WAIT
        if is_waiting and frame.f_code.co_name == _P2P_ACTION:
            return _awaited(ranks, frame.f_locals, since)
        frame = frame.f_back
    return Collective("send", "pipeline", _pipeline(ranks), None, since) if is_waiting else None


def place_of(thread: int) -> str:
    """Where a thread is: function, file and line of its innermost Python frame."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "a place that cannot be told"
    return f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _entries() -> list[dict[str, Any]]:
    dumps = [getattr(c10d, name, None) for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json")]
    entries: list[dict[str, Any]] = []
    for dump in dumps:
        if dump is not None:
            entries += json.loads(dump(includeCollectives=True, onlyActive=False)).get("entries", [])
    return sorted(entries, key=lambda entry: entry["time_created_ns"])


def _groups(ranks: Mesh) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The groups that this rank is in by torch's name: their axis, and their ranks."""
    known: dict[tuple[int, ...], str] = {}
    if ranks.device_mesh is not None:
        for axis in AXES:
            known.setdefault(tuple(ranks.submesh(axis).mesh.flatten().tolist()), axis)
    known[tuple(range(ranks.count))] = "all ranks"
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for group in list(dist.distributed_c10d._world.pg_map):
        members = tuple(dist.get_process_group_ranks(group))
        if ranks.rank in members:
            name = "context" if group is ranks.context_group else known.get(members, "several axes")
            found[group.group_name] = (name, members)
    return found


def _pipeline(ranks: Mesh) -> tuple[int, ...]:
    return tuple(ranks.submesh("pipeline").mesh.flatten().tolist())


def _awaited(ranks: Mesh, held: dict[str, Any], since: float) -> Collective:
    """By the local variables of torch's runner of action lists."""
    action, members = held.get("action"), _pipeline(ranks)
    schedule = held.get("self")
    if action is None or schedule is None:
        return Collective("receive", "pipeline", members, None, since)
    forward = str(action.computation_type) == "F"
    sender = members[schedule.stage_index_to_group_rank[action.stage_index + (-1 if forward else 1)]]
    what = "activations" if forward else "gradients"
    kind = f"receive of the {what} of micro-batch {action.microbatch_index}"
    return Collective(kind, "pipeline", tuple(sorted((ranks.rank, sender))), None, since)
