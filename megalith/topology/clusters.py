"""The machines: nodes, what is in them, and how fast and how far apart two ranks are.

Ranks fill the nodes in order: rank r lies on node r // accelerators_per_node, and nodes that are numbered one after
another are taken to stand together. Rates are those of the datasheets, of one accelerator in one direction; what of
them a program reaches is for the planner to say. Latencies are of one step of a ring. This machine is described by the
facts that the caller has (`local_cluster`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from megalith.topology.accelerators import Accelerator, accelerator

LOCAL = "local"


@dataclass(frozen=True)
class Tier:
    """Links of one kind."""

    name: str
    nodes: int | None
    """How many neighbouring nodes it spans: 1 is the inside of a node, None the whole cluster."""
    bytes_per_second: float | None
    """Rate of one accelerator, in one direction; None where nobody has measured it."""
    latency_seconds: float | None


@dataclass(frozen=True)
class Link:
    """The links between the members of a group: the farthest tier that they need, and the share of it they get."""

    tier: Tier
    bytes_per_second: float | None
    """Rate at which each member of a ring through the group can send."""

    def seconds(self, wire_bytes: float, hops: int) -> float | None:
        """To send `wire_bytes` in `hops` steps of a ring, alone on the link; None where its rate is not known."""
        if self.bytes_per_second is None or self.tier.latency_seconds is None:
            return None
        return wire_bytes / self.bytes_per_second + hops * self.tier.latency_seconds


@dataclass(frozen=True)
class Cluster:
    """Nodes of one kind, and the links between their accelerators from near to far."""

    name: str
    nodes: int
    accelerators_per_node: int
    accelerator: str
    memory_bytes: float
    """Memory of one accelerator, as a program finds it."""
    peak_flops_per_second: float | None
    """Peak of one accelerator: dense bf16 products, or fp16 where it has no bf16; None where nobody has measured it."""
    tiers: tuple[Tier, ...]
    """From near to far; the last one spans everything."""
    most_nodes: int | None = None
    """Nodes that there are, if the cluster is one of a kind."""
    device: Accelerator | None = None
    """The accelerator's figures, where a file gives them (`cluster_file`)."""
    host_memory_bytes: float | None = None
    """In a node; None where nobody says."""
    price_per_hour: float | None = None
    """For one accelerator."""
    node_watts: float | None = None
    """At most."""
    pue: float | None = None
    notes: tuple[str, ...] = ()
    """Assumptions behind the description, in words."""

    def __hash__(self) -> int:
        """By the fields that tell clusters apart as a rule: a search looks them up hundreds of thousands of times."""
        return hash((self.name, self.nodes, self.accelerators_per_node))

    @property
    def facts(self) -> Accelerator | None:
        """The accelerator's datasheet; None for this machine."""
        return self.device or accelerator(self.accelerator)

    @property
    def accelerators(self) -> int:
        return self.nodes * self.accelerators_per_node

    @property
    def takes_any_world(self) -> bool:
        """Whether ranks may be more or fewer than accelerators: processes of one machine share its cores."""
        return self.name == LOCAL and self.nodes == 1

    def span(self, tier: Tier) -> int:
        """Accelerators that `tier` spans."""
        return self.accelerators_per_node * min(tier.nodes or self.nodes, self.nodes)

    def node(self, rank: int) -> int:
        """The node that `rank` lies on."""
        return 0 if self.nodes == 1 else rank // self.accelerators_per_node

    def tier(self, a: int, b: int) -> Tier:
        """The links between two ranks."""
        return self.tier_of((a, b))

    def tier_of(self, ranks: Iterable[int]) -> Tier:
        """The farthest links that a group of ranks needs."""
        nodes = {self.node(rank) for rank in ranks}
        near = (tier for tier in self.tiers if tier.nodes and len({node // tier.nodes for node in nodes}) == 1)
        return next(near, self.tiers[-1])

    def link(self, ranks: Iterable[int]) -> Link:
        """The link that each member of a ring through `ranks` has.

        A ring crosses from node to node once for all its members on a node, so they lend each other their links to the
        outside; between them it is never faster than a nearer tier.
        """
        members = list(ranks)
        tier = self.tier_of(members)
        nodes = [self.node(member) for member in members]
        lenders = 1 if tier.nodes == 1 else min(nodes.count(node) for node in set(nodes))
        if tier.bytes_per_second is None:
            return Link(tier, None)
        return Link(tier, min(lenders * tier.bytes_per_second, self.tiers[0].bytes_per_second or math.inf))


def local_cluster(
    accelerator: str,
    accelerators: int,
    memory_bytes: float,
    *,
    peak_flops_per_second: float | None = None,
    link_bytes_per_second: float | None = None,
    link_latency_seconds: float | None = None,
) -> Cluster:
    """This machine, by facts that the caller has measured; memory and rates are of one accelerator (a core, a GPU)."""
    inside = Tier("machine", 1, link_bytes_per_second, link_latency_seconds)
    network = Tier("network", None, None, None)
    return Cluster(LOCAL, 1, accelerators, accelerator, memory_bytes, peak_flops_per_second, tiers=(inside, network))
