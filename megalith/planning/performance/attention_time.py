"""The core of attention: FLOPs as a kernel runs them, and the rate that each kernel reaches on each generation.

A fused kernel skips the blocks that a causal mask hides, but computes those on the diagonal whole. Its rate depends on
the kernel far more than a matrix product's does: FlashAttention-2 leaves two thirds of a Hopper idle.
"""

from collections.abc import Mapping
from typing import Literal

from megalith.recipe import ModelConfig

Kernel = Literal["flash-1", "flash-2", "torch", "cudnn"]

UNFUSED = 0.42  # of what large products reach: attention's are many small ones, and their scores go through memory
MISALIGNED = 10.0  # attention's products with a head size that is no multiple of 8 miss the tensor cores
FUSED_BACKWARD = 3.3  # five products for two (2205.14135 §B.4), at three quarters of the rate (2307.08691 §1)
DIAGONAL = 128  # tokens of a block (2307.08691 §3.3): of the blocks on the diagonal, half is in vain

_OLD: Mapping[str, float] = {"v100": 0.3, "a100": 0.4, "h100": 0.2, "b200": 0.1, "mi300x": 0.2}
_TWO: Mapping[str, float] = {"v100": 0.3, "a100": 0.6, "h100": 0.35, "b200": 0.18, "mi300x": 0.35}
FUSED_SHARES: Mapping[Kernel, Mapping[str, float]] = {
    # 2307.08691 §1: FlashAttention and Triton's reach 25 to 40 % of an A100; on an H100 the same share of
    # FlashAttention-2's rate is taken
    "flash-1": _OLD,
    # 2307.08691 §1: 50 to 73 % of an A100; 2407.08608 §1: 35 % of an H100
    "flash-2": _TWO,
    # torch's scaled_dot_product_attention: FlashAttention-2 up to Hopper, cuDNN's kernel on Blackwell
    "torch": {**_TWO, "b200": 0.44},
    # 2407.08608 Figure 5: FlashAttention-3 and cuDNN at 550 to 650 TFLOP/s on an H100 with causal heads of 128; SimuMax
    # (configs/system/b200_bf16_ceperm.json@e691807a) measured 0.87 on a B200, counted without the mask
    "cudnn": {**_TWO, "h100": 0.58, "b200": 0.44},
}
"""Share of the bf16 peak that the forward of each kernel reaches with long sequences and causal heads of 128."""
DEFAULT_SHARE = 0.4  # this machine, and what nobody has measured


def fused_share(kernel: Kernel, generation: str) -> float:
    """Share of the bf16 peak that the kernel's forward pass reaches, by its source."""
    return FUSED_SHARES[kernel].get(generation, DEFAULT_SHARE)


def attention_flops(model: ModelConfig, tokens: int, seen: float, width: int, *, fused: bool) -> float:
    """FLOPs of scores and weighted sum, forward, of `tokens` tokens that look at `seen` each, in heads `width` wide.

    Nothing is skipped without fusion, by a BERT model, which has no causal mask, or over a window, whose mask is given
    to the kernel.
    """
    length = model.sequence_length
    flops = (6.0 if model.positions == "relative" else 4.0) * tokens * seen * width
    if model.head_dim % 8:
        flops *= MISALIGNED
    if fused and seen == length and model.family != "bert":
        flops *= min(1.0, (1 + DIAGONAL / length) / 2)
    return flops
