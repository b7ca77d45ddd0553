"""One model over all ranks: this rank's stages of it, and what a step asks of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from megalith.model import Transformer
from megalith.parallel import data_parallel
from megalith.parallel.context import MicroBatch, own_tokens
from megalith.parallel.master_weights import Master, local
from megalith.parallel.mesh import Mesh
from megalith.parallel.pipeline import Pipeline
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.schedules import Lists, Op, action_lists


@dataclass
class DistributedModel:
    """This rank's part of a model that is trained by all ranks together."""

    config: ModelConfig
    parallel: ParallelConfig
    ranks: Mesh
    stages: dict[int, Transformer]
    """By number in the pipeline."""
    masters: list[Master]
    gradients: data_parallel.Gradients
    pipeline: Pipeline | None
    _lists: dict[tuple[int, bool], Lists] = field(default_factory=dict)
    tied: dist.ProcessGroup | None = None
    _counted: Tensor | None = None

    @property
    def losses(self) -> tuple[str, ...]:
        """The kinds of loss, in the order of `forward_backward`."""
        return next(iter(self.stages.values())).losses

    def forward_backward(
        self, batches: Sequence[MicroBatch], weights: Sequence[float], dropout_seeds: Sequence[int]
    ) -> Tensor:
        """Add the gradients of Σ losses · weights over this data-parallel rank's micro-batches.

        Ranks that share a sample are each given the whole of it, and take their own tokens. Gives the sums of each kind
        of loss over these, in fp64, on one rank of those that computed them; zeros on the
        others. `dropout_seeds` seed the dropout of each micro-batch.
        """
        scales = self._numbers(weights)
        if self.pipeline is not None:
            lists = self._schedule(len(batches), training=True)
            split = any(action.op is Op.INPUT_GRADIENT for own in lists for action in own)
            self.gradients.before_micro_batch(last=True, passes=0 if split else len(batches))
            return self._pipelined(batches, scales, dropout_seeds)
        (stage,) = self.stages.values()
        sums = torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
        for number, (batch, seed) in enumerate(zip(batches, dropout_seeds, strict=True), start=1):
            self.gradients.before_micro_batch(last=number == len(batches))
            tokens, rest = self._arguments(batch, seed)
            losses = stage(tokens, **rest)
            (losses * scales).sum().backward()
            sums += losses.detach()
        return self._once(sums)

    @torch.no_grad()
    def evaluate(self, batches: Sequence[MicroBatch]) -> Tensor:
        """The sums of each kind of loss, as `forward_backward` gives them, with no gradient and no dropout.

        Every data-parallel rank must give as many micro-batches, all of one shape.
        """
        for stage in self.stages.values():
            stage.eval()
        if self.pipeline is not None:
            sums = self._pipelined(batches, None, [0] * len(batches))
        else:
            (stage,) = self.stages.values()
            sums = torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
            for batch in batches:
                tokens, rest = self._arguments(batch, 0)
                sums += stage(tokens, **rest)
            sums = self._once(sums)
        for stage in self.stages.values():
            stage.train()
        return sums

    def reduce_gradients(self) -> None:
        """Add up the gradients over the ranks, once a step."""
        self.gradients.reduce()
        if self.tied is not None:
            shared = next(m for m in self.masters if m.name == "token_embedding.weight")
            assert shared.value.grad is not None
            dist.all_reduce(shared.value.grad, group=self.tied)

    def agree(self, *numbers: Tensor | float) -> tuple[float, list[float]]:
        """The global norm, in which each element of the model counts once, and the sums of numbers over all ranks.

        They are the same on every rank, and found by one message and one wait for the GPU.
        """
        squared, self._counted = data_parallel.squared_norm(self.masters, self._counted)
        own = [each.reshape(-1) if isinstance(each, Tensor) else self._numbers([each]) for each in numbers]
        told = torch.cat([squared.reshape(1), *own])
        if self.ranks.count > 1:
            dist.all_reduce(told)
        norm, *sums = told.tolist()
        return float(norm**0.5), sums

    def gradient_norm(self) -> float:
        """The global norm alone."""
        return self.agree()[0]

    @torch.no_grad()
    def copy_master_weights(self) -> None:
        """Set the model to its masters, after these have moved."""
        narrow = [(local(m.parameter.detach()), m.value) for m in self.masters if m.parameter.dtype != m.value.dtype]
        if narrow:
            torch._foreach_copy_([own for own, _ in narrow], [value for _, value in narrow])

    def _pipelined(self, batches: Sequence[MicroBatch], weights: Tensor | None, dropout_seeds: Sequence[int]) -> Tensor:
        assert self.pipeline is not None
        both = [self._arguments(batch, number) for batch, number in zip(batches, dropout_seeds, strict=True)]
        inputs, rest = [tokens for tokens, _ in both], [named for _, named in both]
        count, length = inputs[0].shape
        if self.parallel.sequence_parallel:
            length //= self.ranks.size("tensor")
        lists = self._schedule(len(batches), training=weights is not None)
        sums = self.pipeline.run(lists, inputs, rest, (count, length, self.config.hidden), weights)
        if sums is None:
            return torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
        return self._once(sums)

    def _schedule(self, micro_batches: int, *, training: bool) -> Lists:
        key = (micro_batches, training)
        if key not in self._lists:
            self._lists[key] = action_lists(self.parallel, micro_batches, training=training)
        return self._lists[key]

    def _arguments(self, batch: MicroBatch, dropout_seed: int) -> tuple[Tensor, dict[str, Any]]:
        own = own_tokens(batch, self.ranks)
        rest: dict[str, Any] = {name: onto(value, self.ranks.device) for name, value in own.items()}
        tokens: Tensor = rest.pop("tokens")
        return tokens, rest | ({"dropout_seed": dropout_seed} if self.config.dropout > 0 else {})

    def _numbers(self, values: Sequence[float]) -> Tensor:
        """Numbers on this rank's device, in fp64: filled in there, not copied."""
        return torch.cat([torch.full((1,), each, dtype=torch.float64, device=self.ranks.device) for each in values])

    def _once(self, sums: Tensor) -> Tensor:
        return sums if self.ranks.index("tensor") == 0 else torch.zeros_like(sums)


def onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device, without waiting for what a GPU still has to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
