"""The weights that a model starts from: each parameter's depend on the seed and on its own name, and on nothing else.

So they are the same however the model is split, and whatever was built or drawn before.
"""

import hashlib
import math

import torch

from megalith.model.gpt import GPT

RESIDUAL_PROJECTIONS = ("attention.output.weight", "mlp.down.weight")


@torch.no_grad()
def initialise(model: GPT, seed: int) -> None:
    """Draw N(0, σ) for matrices, σ / √(2 L) for those that write to the residual stream; norms are 1, biases 0.

    σ is `weight_std` and L the number of layers of the whole model (GPT-2 §2.3; MT-NLG §3.2).
    """
    std = model.config.weight_std
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            scale = 1 / math.sqrt(2 * model.config.layers) if name.endswith(RESIDUAL_PROJECTIONS) else 1.0
            drawn = torch.empty(parameter.shape).normal_(0.0, std * scale, generator=_generator(seed, name))
            parameter.copy_(drawn)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
