"""The setting up of a rank's device before it trains: determinism, precision, allocator; and whether layers compile."""

import os

import torch

from megalith.parallel import compute_deterministically
from megalith.recipe import Recipe

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Environment variables of torch's allocator, the second by its old name."""


def settle_allocator() -> None:
    """Have CUDA's allocator grow its segments rather than leave gaps; called before anything is on a GPU."""
    if not any(name in os.environ for name in ALLOCATOR):
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"


def set_up(recipe: Recipe, device: torch.device) -> None:
    """Set torch for this recipe; called before the first product and the first message.

    What is left of fp32 products in a narrower precision is multiplied in TF32.
    """
    torch.set_float32_matmul_precision("highest" if recipe.train.precision == "fp32" else "high")
    if is_deterministic(recipe, device):
        compute_deterministically()
    else:
        torch.use_deterministic_algorithms(False)


def is_deterministic(recipe: Recipe, device: torch.device) -> bool:
    """Whether its steps are the same to the bit on every run: asked for, or by default on a CPU."""
    asked = recipe.train.deterministic
    return device.type == "cpu" if asked is None else asked


def is_compiled(recipe: Recipe, device: torch.device) -> bool:
    """Whether its layers are compiled: asked for, or by default on a GPU where nothing forbids it."""
    if recipe.train.compile is not None:
        return recipe.train.compile
    parallel = recipe.parallel
    apart = (parallel.pipeline or 1) > 1 and (parallel.schedule.startswith("zb") or parallel.schedule_file is not None)
    return device.type == "cuda" and not apart and not recipe.evaluate.every
