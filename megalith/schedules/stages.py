"""Layers dealt to pipeline stages: ours, where the logits count, and Megatron-LM's."""

from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.recipe.model import ModelConfig


def layers_of_stages(model: ModelConfig, stages: int) -> list[range]:
    """Which layers each stage has: the slowest stage is as fast as can be, the logits counted with the last one.

    A layer goes to the stage that costs least so far, in forward FLOPs; of equals to the later one, since the first
    stages hold the most activations, and the first of them the embedding. Each stage between the ends has a layer; the
    first may be left with the embedding alone and the last with the logits (2407.21783 §3.3.2), which is how
    `model.most_stages` are filled.
    """
    layer, costs = layer_forward_flops(model), [0.0] * stages
    costs[-1] += head_forward_flops(model)
    counts = [int(0 < stage < stages - 1) for stage in range(stages)]
    for _ in range(model.layers - sum(counts)):
        cheapest = min(range(stages), key=lambda stage: (costs[stage] + counts[stage] * layer, -stage))
        counts[cheapest] += 1
    ends = [sum(counts[: stage + 1]) for stage in range(stages)]
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def deal_evenly(layers: int, stages: int) -> list[int]:
    """Layers of each stage as Megatron-LM's family deals them: evenly, the rest to the first stages.

    Where layers + 2 fill the stages evenly and layers do not, embedding and logits count as a layer each.
    """
    if counts_embedding_and_logits(layers, stages):
        share = (layers + 2) // stages
        return [share - 1, *[share] * (stages - 2), share - 1]
    least, over = divmod(layers, stages)
    return [least + (stage < over) for stage in range(stages)]


def counts_embedding_and_logits(layers: int, stages: int) -> bool:
    """Whether Megatron-LM's rule takes embedding and logits for a layer each."""
    return layers % stages != 0 and (layers + 2) % stages == 0
