"""Training's optimizer step (`parallel.take_step`) of one rank under the watch, on fake tensors or on real ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from megalith.parallel import (
    DistributedModel,
    Mesh,
    MicroBatch,
    Optimizer,
    compute_dtype,
    local,
    parallelize,
    take_step,
)
from megalith.parallel.step import Phase as StepPhase
from megalith.planning.dryrun.collectives import Phase
from megalith.planning.dryrun.storages import Kind
from megalith.planning.dryrun.watch import Watch
from megalith.recipe import ModelConfig, Recipe

_WATCHED: dict[StepPhase, Phase] = {"forward_backward": "passes", "reduce": "reduction", "optimizer": "updates"}


@dataclass
class Training:
    """A rank's part of the model, ready to be trained, under the watch."""

    recipe: Recipe
    model: DistributedModel
    optimizer: Optimizer
    watch: Watch

    def state(self) -> dict[Kind, list[Tensor]]:
        """Tensors that the rank holds from step to step; a master that is the weight itself is a weight."""
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
        self.watch.host.clear()
        storages.begin_step()
        ready = range(micro_batches + waiting)
        batches = [blank_batch(self.recipe.model, size, model.ranks.device) for _ in ready]
        take_step(
            model,
            self.optimizer,
            batches[:micro_batches],
            [1.0 for _ in model.losses],
            [0] * micro_batches,
            learning_rate=train.learning_rate or 1.0,
            clip_norm=train.clip_norm,
            phase=self._watched,
        )

    @contextmanager
    def _watched(self, phase: StepPhase) -> Iterator[None]:
        """The messages of `phase` are counted as such; reduced gradients are known once they are in place."""
        sent = self.watch.collectives
        sent.phase = _WATCHED.get(phase, "scalars")
        yield
        sent.phase = "scalars"
        if phase == "reduce":
            self.watch.storages.mark(_gradients(self.model), "gradients")


def begin(recipe: Recipe, ranks: Mesh, watch: Watch) -> Training:
    """The recipe's model over `ranks`, which are arranged, its weights unset. `watch` is watching."""
    model = parallelize(
        recipe.model,
        recipe.parallel,
        ranks,
        dtype=compute_dtype(recipe.train.precision),
        seed=None,
        z_loss=recipe.train.z_loss,
    )
    training = Training(recipe, model, Optimizer(model.masters, recipe.train), watch)
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


def _gradients(model: DistributedModel) -> list[Tensor]:
    return [master.value.grad for master in model.masters if master.value.grad is not None]
