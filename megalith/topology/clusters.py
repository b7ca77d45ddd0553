"""The machines: nodes, what is in them, and how fast and how far apart two ranks are.

Ranks fill the nodes in order: rank r lies on node r // accelerators_per_node, and nodes that are numbered one after
another are taken to stand together. Rates are those of the datasheets, of one accelerator in one direction; what of
them a program reaches is for the planner to say. Latencies are of one step of a ring. This machine is described by the
facts that the caller has (`local_cluster`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from megalith.errors import RecipeError
from megalith.recipe.machine import ClusterConfig
from megalith.topology.accelerators import Accelerator, accelerator

LOCAL = "local"


@dataclass(frozen=True)
class Tier:
    """Links of one kind."""

    name: str
    nodes: int | None
    """How many neighbouring nodes it spans: 1 is the inside of a node, None the whole cluster."""
    bytes_per_second: float | None
    """Of one accelerator, in one direction; None where nobody has measured it."""
    latency_seconds: float | None


@dataclass(frozen=True)
class Link:
    """What a group of ranks has between its members: the farthest tier that they need, and the share of it they get."""

    tier: Tier
    bytes_per_second: float | None
    """What each member of a ring through the group can send."""

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
    """Of one accelerator, as a program finds it."""
    peak_flops_per_second: float | None
    """Of one accelerator: dense bf16 products, or fp16 where it has no bf16; None where nobody has measured it."""
    tiers: tuple[Tier, ...]
    """From near to far; the last one spans everything."""
    most_nodes: int | None = None
    """Nodes that there are, if the cluster is one of a kind."""
    node_watts: float | None = None
    """The most that a node draws, all in it together; None where nothing is stated."""

    @property
    def facts(self) -> Accelerator | None:
        """What the accelerator's datasheet says; None for this machine."""
        return accelerator(self.accelerator)

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
        """What a ring through `ranks` has at each member.

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


def describe(config: ClusterConfig, local: Cluster | None = None) -> Cluster:
    """The cluster that a recipe names, with the recipe's nodes and accelerators, and the tiers that so many nodes need.

    `local` is this machine (`local_cluster`), wanted where the recipe's cluster is local. Raises RecipeError for a name
    that is not known, and for more nodes or accelerators than there are.
    """
    cluster = local if config.name == LOCAL else _CLUSTERS.get(config.name)
    if cluster is None:
        raise RecipeError(
            f"no cluster {config.name} is described.", where="cluster.name", mend=f"Give {_either(known_clusters())}."
        )
    per_node = config.accelerators_per_node or cluster.accelerators_per_node
    if cluster.name != LOCAL and per_node > cluster.accelerators_per_node:
        raise RecipeError(
            f"a node of {cluster.name} has {cluster.accelerators_per_node} accelerators, not {per_node}.",
            where="cluster.accelerators_per_node",
            mend=f"Give {cluster.accelerators_per_node} or fewer.",
        )
    if cluster.most_nodes is not None and config.nodes > cluster.most_nodes:
        raise RecipeError(
            f"{cluster.name} has {cluster.most_nodes} nodes, not {config.nodes}.",
            where="cluster.nodes",
            mend=f"Give {cluster.most_nodes} or fewer.",
        )
    reach = [0, *(tier.nodes or config.nodes for tier in cluster.tiers)]
    needed = tuple(tier for tier, nearer in zip(cluster.tiers, reach, strict=False) if nearer < config.nodes)
    return replace(cluster, nodes=config.nodes, accelerators_per_node=per_node, tiers=needed)


def known_clusters() -> tuple[str, ...]:
    """The names that `cluster.name` may have."""
    return (LOCAL, *_CLUSTERS)


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


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


_GIB = 2**30
_NVLINK_LATENCY = 3.4e-6  # NCCL's tuning table: a step of a ring, simple protocol, over NVLink
_NETWORK_LATENCY = 9.6e-6  # the same table: over the network
_SWITCH_LATENCY = 130e-9  # NVIDIA Quantum HDR switch, port to port (datasheet)

_DGX_A100 = Cluster(
    name="dgx-a100",
    nodes=1,
    accelerators_per_node=8,  # DGX A100 datasheet
    accelerator="A100-SXM-80GB",
    memory_bytes=79.15 * _GIB,  # what torch finds on the 80 GB card
    peak_flops_per_second=312e12,  # A100 datasheet, bf16 dense
    tiers=(
        Tier("nvlink", 1, 300e9, _NVLINK_LATENCY),  # A100 datasheet: 600 GB/s in both directions together
        Tier("infiniband", 20, 25e9, _NETWORK_LATENCY),  # a 200 Gb/s HCA for each GPU; 20 nodes a unit (RA-09950)
        Tier("infiniband-core", None, 25e9, _NETWORK_LATENCY + 2 * _SWITCH_LATENCY),  # a full fat tree (RA-09950)
    ),
    node_watts=6500,  # DGX A100 datasheet
)
_DGX_H100 = Cluster(
    name="dgx-h100",
    nodes=1,
    accelerators_per_node=8,  # DGX H100 datasheet
    accelerator="H100-SXM-80GB",
    memory_bytes=79.1 * _GIB,  # what torch finds on the 80 GB card
    peak_flops_per_second=989e12,  # H100 SXM datasheet: 1,979 with sparsity, half of it dense
    tiers=(
        Tier("nvlink", 1, 450e9, _NVLINK_LATENCY),  # H100 SXM datasheet: 900 GB/s in both directions together
        Tier("infiniband", 32, 50e9, _NETWORK_LATENCY),  # a 400 Gb/s HCA for each GPU; 32 nodes a unit (RA-11333)
        Tier("infiniband-core", None, 50e9, _NETWORK_LATENCY + 2 * _SWITCH_LATENCY),  # a full fat tree (RA-11333)
    ),
    node_watts=10200,  # DGX H100 datasheet
)
_JEANZAY = Cluster(
    name="jeanzay",
    nodes=1,
    accelerators_per_node=8,  # BLOOM (2211.05100) §3.4
    accelerator="A100-SXM-80GB",
    memory_bytes=79.15 * _GIB,  # what torch finds on the 80 GB card
    peak_flops_per_second=312e12,  # A100 datasheet, bf16 dense
    tiers=(
        Tier("nvlink", 1, 300e9, _NVLINK_LATENCY),  # A100 datasheet; BLOOM's paper counts 4 links, not their rate
        Tier("omni-path", None, 6.25e9, _NETWORK_LATENCY),  # four 100 Gb/s links a node for 8 GPUs (BLOOM §3.4)
    ),
    most_nodes=52,  # 48 and 4 to spare (BLOOM §3.4)
)
_DGX_2 = Cluster(
    name="dgx-2",
    nodes=1,
    accelerators_per_node=16,  # DGX-2 datasheet
    accelerator="V100-SXM3-32GB",
    memory_bytes=31.75 * _GIB,  # what torch finds on the 32 GB card
    peak_flops_per_second=125e12,  # V100 datasheet, fp16: it has no bf16
    tiers=(
        Tier("nvlink", 1, 150e9, _NVLINK_LATENCY),  # Megatron-LM §5: 300 GB/s, six links in both directions together
        Tier("infiniband", None, 6.25e9, _NETWORK_LATENCY),  # Megatron-LM §5: 100 GB/s a node, 8 adapters for 16 GPUs
    ),
    node_watts=10000,  # DGX-2 datasheet
)
_DGX_1 = Cluster(
    name="dgx-1",
    nodes=1,
    accelerators_per_node=8,  # DGX-1 datasheet
    accelerator="V100-SXM2-32GB",
    memory_bytes=31.75 * _GIB,  # what torch finds on the 32 GB card
    peak_flops_per_second=125e12,  # V100 datasheet, fp16: it has no bf16
    tiers=(
        Tier("nvlink", 1, 150e9, _NVLINK_LATENCY),  # V100 datasheet: 300 GB/s in both directions together
        Tier("infiniband", None, 6.25e9, _NETWORK_LATENCY),  # four 100 Gb/s adapters a node (DGX-1 datasheet)
    ),
    node_watts=3500,  # DGX-1 datasheet
)
_DGX_B200 = Cluster(
    name="dgx-b200",
    nodes=1,
    accelerators_per_node=8,  # DGX B200 datasheet
    accelerator="B200-SXM-180GB",
    memory_bytes=178.4 * _GIB,  # what torch finds on the 180 GB card
    peak_flops_per_second=2250e12,  # HGX B200 datasheet: a GPU's share of 36 PFLOP/s with sparsity, dense
    tiers=(
        Tier("nvlink", 1, 900e9, _NVLINK_LATENCY),  # DGX B200 datasheet: 14.4 TB/s of 8 in both directions together
        Tier("infiniband", 32, 50e9, _NETWORK_LATENCY),  # eight 400 Gb/s ports (datasheet); 32 nodes a unit (RA-11334)
        Tier("infiniband-core", None, 50e9, _NETWORK_LATENCY + 2 * _SWITCH_LATENCY),  # a full fat tree (RA-11334)
    ),
    node_watts=14300,  # DGX B200 datasheet
)
_MI300X = Cluster(
    name="mi300x",
    nodes=1,
    accelerators_per_node=8,  # Instinct MI300X platform datasheet
    accelerator="MI300X-192GB",
    memory_bytes=191.5 * _GIB,  # what torch finds on the 192 GB card
    peak_flops_per_second=1307.4e12,  # MI300X datasheet, bf16 dense
    tiers=(
        Tier("infinity-fabric", 1, 448e9, _NVLINK_LATENCY),  # platform datasheet: seven links of 64 GB/s each way
        Tier("network", None, 50e9, _NETWORK_LATENCY),  # as such nodes are sold: a 400 Gb/s adapter for each GPU
    ),
)
_SELENE = replace(_DGX_A100, name="selene", most_nodes=560)  # MT-NLG §2
_DGX_A100_40 = replace(
    _DGX_A100,
    name="dgx-a100-40gb",
    accelerator="A100-SXM-40GB",
    memory_bytes=39.4 * _GIB,  # what torch finds on the 40 GB card
)
_DGX_H200 = replace(
    _DGX_H100,
    name="dgx-h200",
    accelerator="H200-SXM-141GB",
    memory_bytes=139.8 * _GIB,  # what torch finds on the 141 GB card
)
_GRAND_TETON = replace(
    _DGX_H100,
    name="grand-teton",  # Llama 3 (2407.21783) §3.3.1: eight GPUs on NVLink, 400 Gb/s a GPU over RoCE
    accelerator="H100-SXM-96GB-500W",
    memory_bytes=94.5 * _GIB,  # torchtitan's benchmarks: 95 GiB
    node_watts=None,
)
_DGX_2H = replace(
    _DGX_2,
    name="dgx-2h",
    peak_flops_per_second=130e12,  # Megatron-LM §1: 39 TFLOP/s is 30 % of it
    node_watts=12000,  # DGX-2H datasheet
)

_ALL = (_SELENE, _DGX_A100, _DGX_A100_40, _DGX_H100, _DGX_H200, _DGX_B200, _GRAND_TETON, _MI300X, _JEANZAY)
_CLUSTERS = {cluster.name: cluster for cluster in (*_ALL, _DGX_2, _DGX_2H, _DGX_1)}
