"""Which implementation of each operation this process uses: torch's own, unless `use` has said otherwise.

A choice is a plain dict of operation → implementation, so that it can be written down with a run and handed to other
processes: it decides the last bits of every result. `chooser` finds the one that suits the processor.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from megalith.errors import InputError

TORCH = "torch"
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16"}
"""The types that an implementation other than torch's may be chosen for."""

PRODUCTS = ("forward", "input gradient", "weight gradient")
ALTERNATIVES: Mapping[str, str] = {
    **{f"fp32 {kind} {product}": "convolution" for kind in ("linear", "vocabulary") for product in PRODUCTS},
    **{f"{name} gelu": "sigmoid" for name in NAMES.values()},
    "fp32 attention": "blocks",
    "bf16 attention": "blocks",
    "bf16 long attention": "blocks",
    "fp32 one row": "columns",
    "fp32 few rows": "blocks",
    "bf16 one row": "blocks",
    "bf16 few rows": "blocks",
}
"""By operation, the implementation that stands beside torch's. `vocabulary` is a linear layer to many more outputs than
inputs, a few tokens at a time: the logits. Rows are those that a linear layer sees while text is generated."""

_chosen: dict[str, str] = {}


def use(choice: Mapping[str, str]) -> None:
    """Take these implementations from now on; operations that are not named are torch's own."""
    for operation, implementation in choice.items():
        if implementation not in (TORCH, ALTERNATIVES.get(operation)):
            raise InputError(
                f"{implementation!r} is not an implementation of the operation {operation!r}.",
                where="kernels",
                mend="Use the version of Megalith that wrote this choice, or remove it.",
            )
    _chosen.clear()
    _chosen.update(choice)


def chosen() -> dict[str, str]:
    """The implementation of every operation in this process."""
    return {operation: _chosen.get(operation, TORCH) for operation in ALTERNATIVES}


def is_ours(operation: str) -> bool:
    """Whether the alternative to torch's own implementation is chosen."""
    return _chosen.get(operation, TORCH) != TORCH


@contextmanager
def using(choice: Mapping[str, str]) -> Iterator[None]:
    """Take these implementations within the block."""
    before = dict(_chosen)
    use(choice)
    try:
        yield
    finally:
        use(before)
