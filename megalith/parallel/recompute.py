"""Activation recomputation: what the backward pass computes again rather than finds kept.

`full` keeps a layer's input alone and computes the layer again (one more forward pass); `selective` computes only
softmax(q·kᵀ)·v again (2205.05198 §5). Dropout draws the same numbers the second time.
"""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from megalith.model import Transformer


def recompute_layers(model: Transformer, what: str, every: int) -> None:
    """Recompute `what` ("none", "selective", "full") in each `every`-th layer, counted through the whole model."""
    if what == "none":
        return
    for number, block in model.numbered_layers.items():
        if number % every == 0:
            _recompute(block if what == "full" else block.attention.core)


def _recompute(module: nn.Module) -> None:
    forward, draws = module.forward, _draws(module)

    def again(*args: Any, **named: Any) -> Any:  # a partial of `checkpoint` would not be compiled
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=draws, **named)

    module.forward = again


def _draws(module: nn.Module) -> bool:
    """Whether the module draws random numbers: then they are to be the same again."""
    return any(getattr(each, "dropout", 0.0) or getattr(each, "p", 0.0) for each in module.modules())
