"""Collectives and sends over the links that a group of ranks has: rings and trees by tier.

A ring through several nodes crosses each node's border once, and the members on a node lend it their links
(`Cluster.link`); other rings of the same axis cross with links of their own. Of a ring and a tree, NCCL takes the
faster for an all-reduce; reduce-scatter and all-gather are rings (Patarasu and Yuan 2009).
"""

import functools
import math
from typing import NamedTuple

from megalith.job import Job
from megalith.planning.performance.constants import Constants
from megalith.topology import Cluster

UNKNOWN_RATE = 10e9  # bytes a second: memory of one machine, where nobody has measured it
UNKNOWN_LATENCY = 30e-6


class Group(NamedTuple):
    """A ring through a group of ranks."""

    size: int
    nodes: int
    bytes_per_second: float
    near_latency: float
    far_latency: float

    @property
    def far(self) -> bool:
        return self.nodes > 1


ALONE = Group(1, 1, math.inf, 0.0, 0.0)


@functools.lru_cache(maxsize=4096)
def group(cluster: Cluster, size: int, stride: int) -> Group:
    """The group of `size` ranks that are `stride` apart."""
    if size <= 1:
        return ALONE
    ranks = range(0, size * stride, stride)
    link = cluster.link(ranks)
    nodes = len({cluster.node(rank) for rank in ranks})
    near = cluster.tiers[0].latency_seconds
    far = link.tier.latency_seconds
    rate = link.bytes_per_second or UNKNOWN_RATE
    return Group(size, nodes, rate, UNKNOWN_LATENCY if near is None else near, UNKNOWN_LATENCY if far is None else far)


ACROSS = 0.43
"""Rate of a tensor group's sums across nodes, as a share of what other groups of those links reach: the one published
run that has such a group (nanotron, 80B, tensor 16 × data 32 on 512 H100) took 1.15 s a step longer than without it,
where the sums were predicted to take 0.88 s. Layers wait for each of these sums; reductions of gradients, to which the
network's share is fitted, are few and long."""
SUMS = 4  # of a layer's forward, each the residual stream once round the ring: two all-reduces, or halves of them


@functools.lru_cache(maxsize=4096)
def _shared(over: Group, lenders: int, tensor: int, layers: int, whole: bool) -> Group:
    sends = 1.0 if whole else 1.0 / tensor
    sums = SUMS * layers / lenders
    return over._replace(bytes_per_second=ACROSS * over.bytes_per_second * sums / (sums + sends))


def beside_sends(over: Group, job: Job, layers: int, *, whole: bool) -> Group:
    """A tensor group with what the pipeline's sends leave it of the adapters that its ranks lend each other.

    Inside a node, and without a pipeline, it has all of them. Across nodes an adapter takes, for each pass of a stage
    of so many `layers`, its part of the group's sums and a rank's own message to the next stage: the whole residual
    stream (`whole`) or its share. Neither waits for the other, so each gets its part of the rate.
    """
    if not over.far:
        return over
    if job.layout.pipeline == 1:
        return over._replace(bytes_per_second=ACROSS * over.bytes_per_second)
    lenders = min(over.size, job.cluster.accelerators_per_node)
    return _shared(over, lenders, over.size, max(1, layers), whole)


def rate(over: Group, constants: Constants) -> float:
    """Bytes a second that each member sends."""
    return over.bytes_per_second * (constants.network if over.far else constants.node_link)


def steps_seconds(over: Group) -> float:
    """The latency of one round of the ring: a far step for each node's border, near ones for the rest."""
    if over.far:
        return over.nodes * over.far_latency + (over.size - over.nodes) * over.near_latency
    return (over.size - 1) * over.near_latency


def half_seconds(payload_bytes: float, over: Group, constants: Constants) -> float:
    """A reduce-scatter or an all-gather of `payload_bytes`, as the whole tensor has them."""
    if over.size == 1:
        return 0.0
    return payload_bytes * (over.size - 1) / over.size / rate(over, constants) + steps_seconds(over)


def all_reduce_seconds(payload_bytes: float, over: Group, constants: Constants) -> float:
    """The faster of a ring and a tree."""
    if over.size == 1:
        return 0.0
    speed = rate(over, constants)
    ring = 2 * (payload_bytes * (over.size - 1) / over.size / speed + steps_seconds(over))
    if over.nodes == 1:
        return ring
    chain = over.size // over.nodes - 1
    depth = math.ceil(math.log2(over.nodes)) * over.far_latency + max(0, chain) * over.near_latency
    return min(ring, 2 * (payload_bytes / speed + depth))


def send_seconds(payload_bytes: float, over: Group, constants: Constants) -> float:
    """A message between the two ranks of `over`."""
    return payload_bytes / rate(over, constants) + over.far_latency
