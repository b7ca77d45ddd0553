"""Several products of one input, as a layer asks for them: parallelism may find them together."""

from collections.abc import Callable

from torch import Tensor, nn

Products = Callable[..., tuple[Tensor, ...]]
"""An input, and the layers of which each is given it."""


def products(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """Give x to each of the layers, one after the other."""
    return tuple(layer(x) for layer in layers)
