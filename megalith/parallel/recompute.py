"""Activation recomputation: what the backward pass computes again rather than finds kept.

`full` keeps a layer's input alone and computes the layer again (one more forward pass); `selective` computes only
softmax(q·kᵀ)·v again (2205.05198 §5). Dropout draws the same numbers the second time.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from megalith.model import Transformer


def recompute_layers(model: Transformer, what: str, every: int) -> None:
    """Recompute `what` ("none", "selective", "full") in each `every`-th layer, counted through the whole model."""
    if what == "none":
        return
    for number, block in model.blocks.items():
        if number % every == 0:
            _recompute(block if what == "full" else block.attention.core)


def _recompute(module: nn.Module) -> None:
    forward: Any = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=_draws(module))
    module.forward = forward


def _draws(module: nn.Module) -> bool:
    """Whether the module draws random numbers: then they are to be the same again."""
    return any(getattr(each, "dropout", 0.0) or getattr(each, "p", 0.0) for each in module.modules())
