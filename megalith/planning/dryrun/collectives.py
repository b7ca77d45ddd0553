"""Every message of a step as the program sends it: over which axis, what for, how often and how many bytes."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.distributed_c10d import GroupName
from torch.utils._pytree import tree_leaves

from megalith.parallel import Mesh
from megalith.parallel.mesh import Axis
from megalith.precision import FP32_BYTES

Pass = Literal["forward", "backward", "recomputation", "step"]
"""step: after the last backward pass, or before the first forward pass."""

Phase = Literal["scalars", "passes", "reduction", "updates"]
"""Part of a step: scalars that the loop adds up; forward and backward; the reduction of the gradients; what an
optimizer sends."""

_COLLECTIVES = {
    "allreduce_": "all_reduce",
    "all_reduce_": "all_reduce",
    "reduce_scatter_tensor": "reduce_scatter",
    "reduce_scatter_tensor_out": "reduce_scatter",
    "_reduce_scatter_base_": "reduce_scatter",
    "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_out": "all_gather",
    "_allgather_base_": "all_gather",
    "alltoall_base_": "all_to_all",
    "broadcast_": "broadcast",
    "reduce_": "reduce",
}
_SILENT = {"wait_tensor", "_wrap_tensor_autograd", "recv_", "barrier"}  # a receive is the other side of a send
_SAME: dict[Axis, str] = {"replicate": "data", "shard": "data"}
_LEAF = 2**64 - 1  # the number of the autograd nodes that put a gradient in place


class Message(NamedTuple):
    """One kind of message."""

    axis: str
    """tensor, context, pipeline, data, ends (the two stages with a tied embedding) or all (every rank)."""
    what: str
    collective: str
    when: Pass
    ranks: tuple[int, ...]
    """The group's; of a send, this rank and the one that it goes to."""


@dataclass
class Amount:
    """All messages of one kind together."""

    count: int = 0
    payload_bytes: int = 0

    def add(self, payload_bytes: int) -> None:
        """One more."""
        self.count += 1
        self.payload_bytes += payload_bytes


class Collectives:
    """Messages sent since `clear`."""

    def __init__(self, ranks: Mesh, made_backward: Callable[[Tensor], bool]) -> None:
        """`made_backward` tells whether a tensor comes from a backward pass."""
        self._ranks, self._made_backward = ranks, made_backward
        self._axes = _axes(ranks)
        self.sent: dict[Message, Amount] = defaultdict(Amount)
        self.wide_gathers = Amount()
        """Weights that ZeRO gathers in fp32, or wider."""
        self._begun: list[int] = []
        self._parts: list[str] = []
        self._open: list[str] = []
        self._computing = 0
        self.phase: Phase = "scalars"

    def clear(self) -> None:
        """Begin to count anew."""
        self.sent.clear()
        self.wide_gathers = Amount()
        self._begun.clear()
        self._parts.clear()

    def follow(self, modules: Iterable[nn.Module]) -> None:
        """Tell by autograd's numbers what belongs to which part of these, in both directions."""
        for module in modules:
            for name, child in module.named_children():
                blocks = child.values() if isinstance(child, nn.ModuleDict) else [child]
                for block in blocks:
                    block.register_forward_pre_hook(lambda *_, part=name: self._enter(part))
                    block.register_forward_hook(lambda *_: self._leave())
                    for inner in block.children():
                        inner.register_forward_pre_hook(lambda *_: self._compute(1))
                        inner.register_forward_hook(lambda *_: self._compute(-1), always_call=True)

    def see(self, func: Any, args: Any, out: Any) -> None:
        """Count an operation of torch's collectives."""
        name = func._schema.name.split("::")[1]
        if name in _SILENT:
            return
        group = _group(args)
        members = tuple(dist.get_process_group_ranks(group))
        payload = max(_bytes(each) for each in (*args, out))
        if name == "send":
            peer = members[args[2]]
            tensor = next(each for each in tree_leaves(args[0]) if isinstance(each, Tensor))
            back = self._made_backward(tensor)
            what: str = "gradients" if back else "activations"
            message = Message("pipeline", what, "send", "backward" if back else "forward", (self._ranks.rank, peer))
        else:
            axis = "all" if self.phase == "scalars" else self._axes.get(group.group_name, "ends")
            collective = _COLLECTIVES.get(name, name)
            when = self._pass() if self.phase == "passes" else "step"
            what = self._what(axis, collective, functional="functional" in func.namespace)
            message = Message(axis, what, collective, when, members)
        self.sent[message].add(payload)
        if message.axis == "data" and message.collective == "all_gather" and _width(args) >= FP32_BYTES:
            self.wide_gathers.add(payload)

    def _what(self, axis: str, collective: str, *, functional: bool) -> str:
        if self.phase == "updates":
            return "updates"
        if axis == "data":
            return "weights" if collective == "all_gather" else "gradients"
        if axis == "ends":
            return "embedding"
        if axis == "all":
            return "scalars"
        if self.phase == "reduction":
            return "whole weights"
        part = self._part()
        if part not in (None, "heads"):  # a bert's cross entropy is in them
            return "embedding" if part == "token_embedding" else str(part).replace("_", " ")
        return "logits" if functional else "loss"

    def _part(self) -> str | None:
        """The module that is computed, or whose gradients are; None between modules."""
        node: Any = torch._C._current_autograd_node()
        if node is None:
            return self._open[-1] if self._open else None
        number = node._sequence_nr()
        if number == _LEAF:
            return "whole weights"
        place = bisect_right(self._begun, number) - 1
        return (self._parts[place] or None) if place >= 0 else None

    def _pass(self) -> Pass:
        if torch._C._current_graph_task_id() == -1:
            return "forward"
        return "recomputation" if self._computing else "backward"

    def _enter(self, part: str) -> None:
        self._open.append(part)
        self._from_here(part)

    def _leave(self) -> None:
        self._open.pop()
        self._from_here("")

    def _compute(self, modules: int) -> None:
        self._computing += modules

    def _from_here(self, part: str) -> None:
        if torch._C._current_graph_task_id() == -1:
            self._begun.append(torch._C._autograd._get_sequence_nr())
            self._parts.append(part)


def _axes(ranks: Mesh) -> dict[str, str]:
    """The axis of each group of this rank by the group's name; the pipelines' ends alone are not there."""
    if ranks.device_mesh is None:
        return {}
    axes: tuple[Axis, ...] = ("replicate", "shard", "pipeline", "tensor")
    found = {str(ranks.submesh(axis).get_group().group_name): _SAME.get(axis, axis) for axis in axes}
    return found | ({str(ranks.context_group.group_name): "context"} if ranks.context_group is not None else {})


def _group(args: Any) -> dist.ProcessGroup:
    for each in args:
        if isinstance(each, torch.ScriptObject):
            return dist.ProcessGroup.unbox(each)
        if isinstance(each, str) and each not in ("sum", "max", "min", "avg", "product"):
            return _resolve_process_group(GroupName(each))
    raise AssertionError("a collective has a group")


def _width(args: Any) -> int:
    """Bytes of a number of what is sent."""
    return max((each.element_size() for each in tree_leaves(args) if isinstance(each, Tensor)), default=0)


def _bytes(value: Any) -> int:
    return sum(each.nbytes for each in tree_leaves(value) if isinstance(each, Tensor))
