"""Random numbers of dropout that do not depend on how the model is split, as far as they can be.

Before each layer the generator is seeded by (run, step, sample, layer): pipeline stages, schedules, data-parallel ranks
and a resumed run draw alike, and tensor-parallel ranks, which hold the same activations, drop the same ones. The
attention's own dropout is on heads that each rank has alone, and under sequence parallelism the rest is on tokens that
each rank has alone: there tensor-parallel ranks draw apart (Megatron-LM's second generator).
"""

import hashlib
from typing import Any

import torch
from torch import nn

from megalith.model import Transformer

_APART = 2718  # Megatron-LM's offset between the generators of tensor-parallel ranks
_ATTENTION = 500_009  # between a layer's generator and its attention's


def seed_dropout(stages: dict[int, Transformer], tensor_rank: int, *, sequence_parallel: bool) -> None:
    """Have each stage take `dropout_seed`, the micro-batch's number, beside its inputs, and seed its layers by it."""
    for stage in stages.values():
        if stage.config.dropout > 0:
            _Seeds(stage, tensor_rank, sequence_parallel=sequence_parallel)


def dropout_seed(seed: int, step: int, sample: int) -> int:
    """Seed of a micro-batch that begins with this sample."""
    digest = hashlib.sha256(f"{seed}/dropout/{step}/{sample}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


class _Seeds:
    """The hooks on one stage."""

    def __init__(self, stage: Transformer, tensor_rank: int, *, sequence_parallel: bool) -> None:
        self.seed, self.apart = 0, tensor_rank * _APART
        self.stream = self.apart if sequence_parallel else 0
        stage.register_forward_pre_hook(self._begin, with_kwargs=True)
        for number, block in stage.numbered_layers.items():
            block.register_forward_pre_hook(self._before_layer(number + 1))
            core: Any = block.attention.core
            core.forward = self._draw_apart(core.forward)

    def _begin(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.seed = kwargs.pop("dropout_seed", 0)
        self._seed(0)  # for the embedding's dropout
        return args, kwargs

    def _before_layer(self, place: int) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self._seed(place)

        return hook

    def _seed(self, place: int) -> None:
        torch.manual_seed((self.seed + place * 1_000_003 + self.stream) % 2**63)

    def _draw_apart(self, forward: Any) -> Any:
        """Draw from a generator of this rank's own, which leaves the common one where it was, also when recomputed.

        On every rank, so that the common ones stay alike. They know the seed that they began this layer from.
        """

        def apart(*args: Any) -> Any:
            with torch.random.fork_rng([args[0].device] if args[0].is_cuda else []):
                torch.manual_seed((torch.initial_seed() + _ATTENTION + self.apart) % 2**63)
                return forward(*args)

        return apart
