"""Behaviour of each software stack, by its documentation or source; its speed is among the constants.

How fast a stack is beside another (kernels, host code) is one multiplier among the constants.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Stack:
    """How one piece of training software orders its work."""

    name: str
    gradient_bytes: int = 4
    """Bytes of a gradient as the data axis sends it."""
    gradient_bytes_fp16: int = 4
    """The same in a run in fp16."""
    blocking_sends: bool = True
    """Whether a rank waits for its sends to the next stage and back."""
    scatter_gather: bool = False
    """Whether a tensor group sends one piece each between stages and gathers inside the node (2104.04473 §4.1)."""
    overlaps_data: Literal["never", "one stage", "always"] = "never"
    """When the last micro-batch's backward hides the reduction of gradients; torch's own DDP knows no pipeline, and
    its FSDP reduces nothing before a pipeline's last backward."""
    collectives_per_tensor: bool = False
    """Whether the data axis has a collective for each parameter and not one for a bucket of them."""
    stops_early: bool = False
    """Whether recomputing a layer without dropout ends before its last product, whose result nothing needs: torch's
    own checkpoint without re-entry, from 2.1."""
    remakes: bool = False
    """Whether selective recomputation makes norms' and activations' results again, beside scores that are kept; and not
    the core of attention whatever it keeps."""
    lends_links: bool = True
    """Whether a group's ranks on a node bring all their network adapters into one ring."""
    balances: bool = False
    """Whether the layers are dealt so that the logits count as layers (`schedules.layers_of_stages`)."""


_STACKS = (
    Stack("megalith", blocking_sends=False, overlaps_data="one stage", balances=True, stops_early=True, remakes=True),
    # Megatron-LM at core 0.5 and before; fp16 reduces gradients in fp16, bf16 in fp32 (its arguments.py)
    Stack("megatron", gradient_bytes_fp16=2, scatter_gather=True, overlaps_data="one stage"),
    # Megatron-Core: its bucketed DDP overlaps, and so do the sends of an interleaved pipeline
    Stack("megatron-core", scatter_gather=True, overlaps_data="always"),
    # DeepSpeed's pipeline engine: no pieces between stages; bf16 accumulates and reduces in fp32
    Stack("megatron-deepspeed", gradient_bytes_fp16=2),
    Stack("nanotron", collectives_per_tensor=True, overlaps_data="always", balances=True),
    # ZeRO-3 of 2021 (2104.04473 Table 2): its steps cost one adapter's rate, whatever the batch
    Stack("deepspeed", gradient_bytes=2, gradient_bytes_fp16=2, overlaps_data="always", lends_links=False),
    Stack(
        "fsdp", gradient_bytes=2, gradient_bytes_fp16=2, blocking_sends=False, overlaps_data="always", stops_early=True
    ),
    Stack(
        "fsdp-pure",
        gradient_bytes=2,
        gradient_bytes_fp16=2,
        blocking_sends=False,
        overlaps_data="always",
        stops_early=True,
    ),
    Stack("torchtitan-eager", blocking_sends=False, overlaps_data="always", balances=True, stops_early=True),
    Stack("torchtitan", blocking_sends=False, overlaps_data="always", balances=True, stops_early=True),
)
STACKS = {stack.name: stack for stack in _STACKS}


def stack_of(name: str) -> Stack:
    """The facts of a stack; of an unknown one, those of Megatron-LM's kind."""
    return STACKS.get(name, STACKS["megatron"])
