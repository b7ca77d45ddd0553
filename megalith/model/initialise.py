"""The weights that a model starts from: each parameter's depend on the seed and on its own name, and on nothing else.

So they are the same however the model is split, and whatever was built or drawn before. A large matrix is drawn in
blocks of rows, each with a generator of its own, so that a rank that holds some of it never holds all of it.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

from megalith.recipe import ModelConfig

RESIDUAL_PROJECTIONS = ("attention.output.weight", "mlp.down.weight")
_BLOCK = 2**22  # numbers drawn at a time


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Set every parameter of a whole model to its first value."""
    for name, parameter in model.named_parameters():
        whole = tuple(slice(0, size) for size in parameter.shape)
        parameter.copy_(initial_value(config, name, parameter.shape, whole, seed))


def initial_value(config: ModelConfig, name: str, shape: torch.Size, region: tuple[slice, ...], seed: int) -> Tensor:
    """The first value of the parameter `name` of this whole `shape`, at `region` of it.

    Matrices are N(0, σ), and N(0, σ / √(2 L)) where they write to the residual stream; norms are 1, biases 0. σ is
    `weight_std` and L the number of layers of the whole model (GPT-2 §2.3; MT-NLG §3.2).
    """
    sizes = [place.stop - place.start for place in region]
    if name.endswith("bias"):
        return torch.zeros(sizes)
    if len(shape) == 1:
        return torch.ones(sizes)
    scale = 1 / math.sqrt(2 * config.layers) if name.endswith(RESIDUAL_PROJECTIONS) else 1.0
    return _normal(f"{seed}/{name}", shape, region, config.weight_std * scale)


def _normal(key: str, shape: torch.Size, region: tuple[slice, ...], std: float) -> Tensor:
    rows, columns = shape
    height = max(1, _BLOCK // columns)
    wanted, across = region
    drawn = torch.empty(wanted.stop - wanted.start, across.stop - across.start)
    for top in range(wanted.start // height * height, wanted.stop, height):
        generator = _generator(f"{key}/{top // height}" if top else key)
        block = torch.empty(min(height, rows - top), columns).normal_(0.0, std, generator=generator)
        first, last = max(top, wanted.start), min(top + len(block), wanted.stop)
        drawn[first - wanted.start : last - wanted.start] = block[first - top : last - top, across]
    return drawn


def _generator(key: str) -> torch.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
