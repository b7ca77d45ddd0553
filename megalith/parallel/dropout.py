"""Random numbers of dropout that depend on the sample, and on the layout only where they must.

Before each layer the generator is seeded by (run, step, first sample of the micro-batch, layer), and each sample of a
dropout by its place after the first: micro-batches of any size, pipeline stages, schedules, data-parallel ranks and a
resumed run draw alike, and tensor-parallel ranks, which hold the same activations, drop the same ones. The attention's
own dropout is on heads that each rank has alone, and under sequence parallelism the rest is on tokens that each rank
has alone: there tensor-parallel ranks draw apart (Megatron-LM's second generator).

A layer that is recomputed finds the generator as it was, and with it the seed that all of its draws begin from.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from megalith.model import Transformer

# multiples of odd constants (modulo 2⁶³) keep the seeds of samples, layers and draws apart
_SAMPLE = 0x1E3779B97F4A7C15
_PLACE = 0x2545F4914F6CDD1D
_DRAW = 0x3C6EF372FE94F82B
_TENSOR_RANK = 2718  # Megatron-LM's offset between the generators of tensor-parallel ranks
_LARGEST = 2**63


def seed_dropout(stages: dict[int, Transformer], tensor_rank: int, *, sequence_parallel: bool) -> None:
    """Have each stage take `dropout_seed`, the micro-batch's number, beside its inputs, and seed its layers by it."""
    for stage in stages.values():
        if stage.config.dropout > 0:
            _Seeds(stage, tensor_rank, sequence_parallel=sequence_parallel)


def dropout_seed(seed: int, step: int, sample: int) -> int:
    """Seed of a micro-batch that begins with this sample."""
    digest = hashlib.sha256(f"{seed}/dropout/{step}".encode()).digest()
    return (int.from_bytes(digest[:7], "big") + sample * _SAMPLE) % _LARGEST


class _Seeds:
    """The hooks on one stage."""

    def __init__(self, stage: Transformer, tensor_rank: int, *, sequence_parallel: bool) -> None:
        self.seed, apart = 0, tensor_rank * _TENSOR_RANK
        stream = apart if sequence_parallel else 0
        stage.register_forward_pre_hook(self._begin, with_kwargs=True)
        _draw_by_sample(stage.dropout, 0, stream)
        for number, layer in stage.numbered_layers.items():
            layer.register_forward_pre_hook(self._before_layer(number + 1))
            for draw, dropout in enumerate((layer.attention_dropout, layer.mlp_dropout)):
                _draw_by_sample(dropout, draw, stream)
            _draw_by_sample(layer.attention.core, 2, apart)

    def _begin(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.seed = kwargs.pop("dropout_seed", 0)
        self._seed(0)  # for the embedding's dropout
        return args, kwargs

    def _before_layer(self, place: int) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._seed(place)

        return hook

    def _seed(self, place: int) -> None:
        torch.manual_seed((self.seed + place * _PLACE) % _LARGEST)


def _draw_by_sample(module: Any, draw: int, apart: int) -> None:
    """Have a module that drops see one sample at a time, each with a generator of its own.

    The common generator is left where it was. `draw` tells the draws of a layer apart, `apart` the ranks.
    """
    forward: Callable[..., Tensor] = module.forward

    def by_sample(*args: Tensor | None) -> Tensor:
        first = args[0]
        assert first is not None
        if not module.training:
            return forward(*args)
        base = torch.initial_seed() + draw * _DRAW + apart
        with torch.random.fork_rng([first.device] if first.is_cuda else []):
            dropped = []
            for number, sample in enumerate(_samples(args)):
                torch.manual_seed((base + number * _SAMPLE) % _LARGEST)
                dropped.append(forward(*sample))
        return dropped[0] if len(dropped) == 1 else torch.cat(dropped)

    module.forward = by_sample


def _samples(args: Sequence[Tensor | None]) -> Iterator[tuple[Tensor | None, ...]]:
    """The samples of each argument; a split's gradients are put together, those of slices would be added up."""
    yield from zip(*(repeat(None) if each is None else torch.split(each, 1) for each in args), strict=False)
