"""Seconds of each pipeline stage on one micro-batch, its part of the embedding, the logits and uneven layers included.

Megalith deals layers so that the logits count (`schedules.layers_of_stages`); other software deals them evenly,
the rest to the first stages, and where layers and two fill the stages evenly, embedding and logits stand for one each.
"""

import functools
from typing import NamedTuple

from megalith.planning.performance.layer_time import EmbeddingAndLossSeconds, LayerSeconds
from megalith.recipe import ModelConfig
from megalith.schedules import deal_evenly, layers_of_stages


class StageSeconds(NamedTuple):
    """One stage on one micro-batch; `recompute` and `tensor` say what of the others they are."""

    forward: float
    input_gradient: float
    """With what is recomputed for it."""
    weight_gradient: float
    recompute: float
    """The part of `input_gradient` that computes the layers again."""
    tensor: float
    """Communication of the tensor and context axes, of all three."""
    gathers: float = 0.0
    """Communication of sharded weights and gradients beyond what computing hides, in all three."""

    @property
    def total(self) -> float:
        return self.forward + self.input_gradient + self.weight_gradient


Deal = tuple[int, ...]
"""Layers of each stage, in order."""


@functools.lru_cache(maxsize=4096)
def deal_of(model: ModelConfig, stages: int, balances: bool) -> Deal:
    """The layers of `model` dealt to stages; `balances` says whether the logits count (`Stack.balances`)."""
    if balances and stages <= model.most_stages:
        return tuple(len(own) for own in layers_of_stages(model, stages))
    return tuple(deal_evenly(model.layers, stages))


class RankLayers(NamedTuple):
    """Layers of the first rank, of the heaviest between, of the last, of the heaviest of all, and of all together."""

    first: int
    between: int
    last: int
    most: int
    every: int


@functools.lru_cache(maxsize=8192)
def rank_layers(dealt: Deal, pipeline: int) -> RankLayers:
    """The layers of stages that go round the ranks."""
    ranks = [sum(dealt[rank::pipeline]) for rank in range(pipeline)]
    return RankLayers(ranks[0], max(ranks[1:-1], default=0), ranks[-1], max(ranks), sum(dealt))


def stage_seconds(
    count: int, layer: LayerSeconds, ends: EmbeddingAndLossSeconds, *, first: bool, last: bool, recomputed: float
) -> StageSeconds:
    """A stage of `count` layers, of which the share `recomputed` is computed again in the backward."""
    recompute = count * recomputed * layer.recompute
    repeated = count * recomputed * layer.tensor_recompute
    tensor = count * (layer.tensor_forward + layer.tensor_backward + layer.context_forward + layer.context_backward)
    forward = count * (layer.forward + layer.tensor_forward + layer.context_forward)
    inputs = count * (layer.input_gradient + layer.tensor_backward + layer.context_backward) + recompute + repeated
    weights = count * layer.weight_gradient
    tensor += repeated
    if first:
        forward += ends.embedding + ends.tensor
        weights += ends.embedding_gradient
        tensor += ends.tensor
    if last:
        forward += ends.head
        inputs += ends.head_input_gradient + ends.tensor
        weights += ends.head_weight_gradient
        tensor += ends.tensor
    return StageSeconds(forward, inputs, weights, recompute, tensor)
