"""Behaviour of each software stack, by its documentation or source; its speed is among the constants.

How fast a stack is beside another (kernels, host code) is one multiplier among the constants.
"""

from dataclasses import dataclass, replace
from typing import Literal

from megalith.planning.performance.attention_time import Kernel


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
    overlaps_data: Literal["never", "one stage", "stage by stage", "always"] = "never"
    """When the backward hides the reduction of gradients; torch's own DDP knows no pipeline, and its FSDP reduces
    nothing of a stage before that stage's last backward in a pipeline. Stage by stage: beside the work of the rank's
    other stages then, and whole gradients (without ZeRO) under that last backward itself."""
    large_messages: Literal["never", "sharded", "always"] = "never"
    """When gradients travel a layer or a hundred megabytes at a time, at the network's rate; else all at once after
    the last backward, or in the 25 MB of torch's buckets (`Constants.gradient_network`)."""
    overlaps_weights: bool = False
    """Whether the weights that ZeRO gathers once a step are sent beside the next forward, layer by layer."""
    overlaps_interleaved_sends: bool = False
    """Whether an interleaved schedule's sends keep no rank waiting, though those of other schedules do."""
    attention: Kernel = "torch"
    """The kernel of fused attention."""
    tensor_overlap: bool = False
    """Whether its published runs send on the tensor axis beside the products, where they do not say."""
    deep_interleaving: bool = False
    """Whether runs that do not state their virtual stages have as many as it takes to make the bubble small."""
    collectives_per_tensor: bool = False
    """Whether the data axis has a collective for each parameter and not one for a bucket of them."""
    stops_early: bool = False
    """Whether recomputing a layer without dropout ends before its last product, whose result nothing needs: torch's
    own checkpoint without re-entry, from 2.1."""
    remakes: bool = False
    """Whether selective recomputation makes norms' and activations' results again, beside scores that are kept; and not
    the core of attention whatever it keeps."""
    gathers_again: bool = False
    """Whether sequence parallelism keeps each rank's own tokens of a product's input, and gathers the others' again
    beside the product of the input's gradient."""
    lends_links: bool = True
    """Whether a group's ranks on a node bring all their network adapters into one ring."""
    balances: bool = False
    """Whether the layers are dealt so that the logits count as layers (`schedules.layers_of_stages`)."""


# llm-foundry's FSDP, with Triton's attention (its attn_impl of 2023); MIXED_PRECISION pure or default
_FSDP = Stack(
    "fsdp",
    gradient_bytes=2,
    gradient_bytes_fp16=2,
    blocking_sends=False,
    overlaps_data="always",
    large_messages="always",
    overlaps_weights=True,
    stops_early=True,
    attention="flash-1",
)
_TORCHTITAN = Stack(
    "torchtitan",
    blocking_sends=False,
    overlaps_data="always",
    large_messages="always",
    overlaps_weights=True,
    balances=True,
    stops_early=True,
)
# Megatron-Core: overlap-grad-reduce, overlap-param-gather; sends overlap in an interleaved pipeline; attention by
# Transformer Engine, which takes cuDNN's on Hopper (its README and arguments.py)
_MEGATRON_CORE = Stack(
    "megatron-core",
    scatter_gather=True,
    overlaps_data="always",
    large_messages="always",
    overlaps_weights=True,
    overlaps_interleaved_sends=True,
    attention="cudnn",
    deep_interleaving=True,
    gathers_again=True,
)
_STACKS = (
    # our own: FSDP2 a layer at a time, whole gradients in buckets of 32 MiB (parallel/data_parallel.py); in a pipeline
    # FSDP2's sums of a stage go when its last backward has ended (parallel/pipeline.py)
    # torch's attention of today, which takes cuDNN's kernel on Hopper and Blackwell (check_prefer_cudnn_attention in
    # aten/src/ATen/native/transformers/cuda/sdp_utils.cpp@001f694a); published runs of torchtitan are older
    Stack(
        "megalith",
        blocking_sends=False,
        overlaps_data="stage by stage",
        large_messages="sharded",
        overlaps_weights=True,
        balances=True,
        stops_early=True,
        remakes=True,
        attention="cudnn",
        gathers_again=True,
    ),
    # Megatron-LM at core 0.5 and before; fp16 reduces gradients in fp16, bf16 in fp32 (its arguments.py)
    Stack(
        "megatron",
        gradient_bytes_fp16=2,
        scatter_gather=True,
        overlaps_data="one stage",
        attention="flash-1",
        gathers_again=True,
    ),
    _MEGATRON_CORE,
    # Megatron-Core by NVIDIA's own recipes, which switch tensor overlap on (Megatron-Bridge, its performance guide)
    replace(_MEGATRON_CORE, name="megatron-bridge", gradient_bytes=2, tensor_overlap=True),
    # Meta's trainer: FSDP's gathers with pipelines, sends that do not wait, stages dealt one layer short at both ends;
    # bf16 gathers, fp32 reduce-scatters (2407.21783 §3.3.2)
    Stack(
        "llama3",
        blocking_sends=False,
        overlaps_data="always",
        large_messages="always",
        overlaps_weights=True,
        attention="cudnn",
        deep_interleaving=True,
    ),
    # DeepSpeed's pipeline engine: no pieces between stages; bf16 accumulates and reduces in fp32
    Stack("megatron-deepspeed", gradient_bytes_fp16=2, attention="flash-1"),
    Stack("nanotron", collectives_per_tensor=True, overlaps_data="always", balances=True, attention="flash-2"),
    # ZeRO-3 of 2021 (2104.04473 Table 2): its steps cost one adapter's rate, whatever the batch
    Stack(
        "deepspeed",
        gradient_bytes=2,
        gradient_bytes_fp16=2,
        overlaps_data="always",
        large_messages="always",
        lends_links=False,
    ),
    _FSDP,
    replace(_FSDP, name="fsdp-pure"),
    _TORCHTITAN,
    replace(_TORCHTITAN, name="torchtitan-eager"),
)
STACKS = {stack.name: stack for stack in _STACKS}


def stack_of(name: str) -> Stack:
    """The facts of a stack; of an unknown one, those of Megatron-LM's kind."""
    return STACKS.get(name, STACKS["megatron"])
