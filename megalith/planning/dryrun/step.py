"""One training step of one rank, as the training loop takes it, on fake tensors or on real ones.

It is the loop's own pieces in the loop's own order; what is left out is reading samples and writing the history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from megalith.parallel import Master, MicroBatch, Ranks, SpreadModel, clip_factor, local, spread
from megalith.planning.dryrun.storages import Kind
from megalith.planning.dryrun.watch import Watch
from megalith.recipe import ModelConfig, Recipe, TrainConfig

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "auto": torch.bfloat16}


class Optimizer(Protocol):
    """As training's own."""

    def update(self, learning_rate: float) -> None:
        """One step."""

    def state(self) -> Mapping[str, Tensor]:
        """The moments of each master."""


MakeOptimizer = Callable[[Sequence[Master], TrainConfig], Optimizer]


@dataclass
class Training:
    """A rank's part of the model, ready to be trained, under the watch."""

    recipe: Recipe
    model: SpreadModel
    optimizer: Optimizer
    watch: Watch

    def state(self) -> dict[Kind, list[Tensor]]:
        """What the rank holds from step to step; a master that is the weight itself is a weight."""
        masters = self.model.masters
        weights = [local(master.parameter.detach()) for master in masters]
        own = {each.untyped_storage()._cdata for each in weights}
        values = [master.value.detach() for master in masters]
        return {
            "weights": weights,
            "masters": [each for each in values if each.untyped_storage()._cdata not in own],
            "gradients": _gradients(self.model),
            "optimizer": [local(each) for each in self.optimizer.state().values()],
        }

    def take_step(self, micro_batches: int, waiting: int = 0) -> None:
        """A step at the full learning rate, in which everything is finite and the gradient is clipped.

        `waiting` more micro-batches lie ready, and are not run.
        """
        model, train = self.model, self.recipe.train
        sent, storages = self.watch.collectives, self.watch.storages
        size = train.micro_batch_size or 1
        sent.clear()
        storages.begin_step()
        ready = range(micro_batches + waiting)
        batches = [blank_batch(self.recipe.model, size, model.ranks.device) for _ in ready]
        valid = model.ranks.sum(*(1.0 for _ in model.losses))
        model.gradients.zero()
        sent.phase = "passes"
        sums = model.forward_backward(batches[:micro_batches], [1 / count for count in valid], [0] * micro_batches)
        sent.phase = "reduction"
        model.reduce_gradients()
        sent.phase = "scalars"
        storages.mark(_gradients(model), "gradients")
        model.ranks.sum(*sums.tolist())
        factor = clip_factor(model.gradient_norm(), train.clip_norm)
        if factor != 1.0:
            model.gradients.scale(factor)
        self.optimizer.update(train.learning_rate or 1.0)
        model.publish()


def begin(recipe: Recipe, ranks: Ranks, make_optimizer: MakeOptimizer, watch: Watch) -> Training:
    """The recipe's model over `ranks`, which are arranged, its weights unset. `watch` is watching."""
    dtype = _TYPES.get(recipe.train.precision, torch.float32)
    model = spread(recipe.model, recipe.parallel, ranks, dtype=dtype, seed=None)
    training = Training(recipe, model, make_optimizer(model.masters, recipe.train), watch)
    watch.collectives.follow(model.stages.values())
    for kind, tensors in training.state().items():
        watch.storages.mark(tensors, kind)
    return training


def blank_batch(config: ModelConfig, size: int, device: torch.device) -> MicroBatch:
    """A micro-batch of full sequences, by the names that the model's forward takes."""
    shape = (size, config.sequence_length)
    names = ("tokens", "targets", *(("segments",) if config.family == "bert" else ()))
    batch = {name: torch.zeros(shape, dtype=torch.long, device=device) for name in names}
    if config.family == "bert":
        batch |= {name: torch.zeros(size, dtype=torch.long, device=device) for name in ("lengths", "order")}
    return batch


def _gradients(model: SpreadModel) -> list[Tensor]:
    return [master.value.grad for master in model.masters if master.value.grad is not None]
