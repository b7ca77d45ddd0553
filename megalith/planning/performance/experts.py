"""Mixtures of experts and the exchange of heads: the time of an all-to-all, and the products of a rank's experts.

A token goes to k of E experts (2101.03961; with shared ones, 2401.06066), and each expert is taken to get as many
tokens as any other: a router that is not balanced takes longer, and drops tokens or waits. The experts lie on the
ranks of the expert group, neighbours on the data axis, and their columns are split over the tensor axis as a dense
MLP's. Layers with experts and without are counted as so many layers of the mean.
"""

from typing import NamedTuple

from megalith.planning.performance.collectives import Group
from megalith.planning.performance.constants import Constants
from megalith.recipe import ModelConfig
from megalith.topology import Cluster

DISPATCHES = 2  # a token is put in its experts' order before, and back into its own after


class Exchange(NamedTuple):
    """The rates of an all-to-all: each rank has its own adapter, and lends it to none."""

    size: int
    near: int
    """Members on a rank's own node, itself among them."""
    near_bytes_per_second: float
    far_bytes_per_second: float
    latency_seconds: float


def mlp_products(model: ModelConfig, tokens: int, tensor: int, expert: int) -> list[tuple[int, int, int, float]]:
    """(rows, columns, depth, how many) of a layer's products after attention, as the mean of all layers."""
    assert model.experts  # the caller's check
    wide = 2 if model.activation == "swiglu" else 1
    with_experts = model.expert_layers / model.layers
    own = model.experts // expert
    rows = max(1, tokens * model.experts_per_token // own)
    inner, shared = max(1, model.expert_hidden // tensor), model.shared_experts * model.expert_hidden // tensor
    found = [
        (tokens, model.experts, model.hidden, with_experts),
        (rows, wide * inner, model.hidden, own * with_experts),
        (rows, model.hidden, inner, own * with_experts),
    ]
    if shared:
        found += [(tokens, wide * shared, model.hidden, with_experts), (tokens, model.hidden, shared, with_experts)]
    if model.dense_layers:
        dense = max(1, model.ffn_hidden // tensor)
        without = 1 - with_experts
        found += [(tokens, wide * dense, model.hidden, without), (tokens, model.hidden, dense, without)]
    return found


def width_met(model: ModelConfig) -> float:
    """Width of the MLPs that a token meets, as the mean of all layers."""
    if not model.experts:
        return float(model.ffn_hidden)
    met = (model.experts_per_token + model.shared_experts) * model.expert_hidden
    return (model.expert_layers * met + model.dense_layers * model.ffn_hidden) / model.layers


def exchange(cluster: Cluster, over: Group, stride: int) -> Exchange:
    """The all-to-all of a group whose members are `stride` ranks apart."""
    near = max(1, min(over.size, cluster.accelerators_per_node // stride))
    inside = cluster.tiers[0].bytes_per_second or over.bytes_per_second
    outside = cluster.tiers[-1].bytes_per_second or inside
    return Exchange(over.size, near if over.far else over.size, inside, outside, over.far_latency)


def all_to_all_seconds(payload_bytes: float, over: Exchange, constants: Constants) -> float:
    """Seconds in which each rank gives `payload_bytes` in even parts to all, its own part among them.

    What stays in the node and what leaves it go at once.
    """
    if over.size == 1:
        return 0.0
    each = payload_bytes / over.size
    inside = each * (over.near - 1) / (over.near_bytes_per_second * constants.node_link)
    outside = each * (over.size - over.near) / (over.far_bytes_per_second * constants.network)
    return max(inside, outside) + over.latency_seconds
