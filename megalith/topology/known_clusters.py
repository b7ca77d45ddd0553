"""The clusters that a recipe can name, by the facts of their datasheets and papers, and this machine as one of them."""

from dataclasses import replace

from megalith.errors import RecipeError
from megalith.recipe.machine import ClusterConfig
from megalith.topology.cluster_file import described_clusters, read_cluster
from megalith.topology.clusters import LOCAL, Cluster, Tier
from megalith.topology.this_machine import this_machine


def describe(config: ClusterConfig, local: Cluster | None = None) -> Cluster:
    """The cluster that a recipe names, with the recipe's nodes and accelerators, and the tiers that so many nodes need.

    `local` stands in for this machine where the recipe's cluster is local. Raises RecipeError for an unknown name, and
    for more nodes or accelerators than the cluster has.
    """
    cluster = _found(config, local)
    if cluster is None:
        raise RecipeError(
            f"cluster {config.name!r} is not known.",
            where="cluster.name",
            mend=f"Set one of {', '.join(known_clusters())}, or cluster=FILE.yaml.",
        )
    per_node = config.accelerators_per_node or cluster.accelerators_per_node
    if cluster.name != LOCAL and per_node > cluster.accelerators_per_node:
        raise RecipeError(
            f"a node of {cluster.name} has {cluster.accelerators_per_node} accelerators, not {per_node}.",
            where="cluster.accelerators_per_node",
            mend=f"Set {cluster.accelerators_per_node} or fewer.",
        )
    if cluster.most_nodes is not None and config.nodes > cluster.most_nodes:
        raise RecipeError(
            f"{cluster.name} has {cluster.most_nodes} nodes, not {config.nodes}.",
            where="cluster.nodes",
            mend=f"Set {cluster.most_nodes} or fewer.",
        )
    if config.nodes > 1 and cluster.name != LOCAL and cluster.tiers[-1].bytes_per_second is None:
        raise RecipeError(
            f"{cluster.name} is described without a network, and {config.nodes} nodes need one.",
            where="cluster.nodes",
            mend=f"Set network in {config.file}, or cluster.nodes=1.",
        )
    reach = [0, *(tier.nodes or config.nodes for tier in cluster.tiers)]
    needed = tuple(tier for tier, nearer in zip(cluster.tiers, reach, strict=False) if nearer < config.nodes)
    return replace(cluster, nodes=config.nodes, accelerators_per_node=per_node, tiers=needed)


def _found(config: ClusterConfig, local: Cluster | None) -> Cluster | None:
    if config.file is not None:
        return read_cluster(config.file)
    if config.name == LOCAL:
        return local or this_machine()
    described = described_clusters()
    return _CLUSTERS.get(config.name) or (read_cluster(described[config.name]) if config.name in described else None)


def known_clusters() -> tuple[str, ...]:
    """The names that `cluster.name` may have."""
    return (LOCAL, *_CLUSTERS, *described_clusters())


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
)
_SELENE = replace(_DGX_A100, name="selene", most_nodes=560)  # MT-NLG §2
_DGX_A100_40 = replace(
    _DGX_A100,
    name="dgx-a100-40gb",
    accelerator="A100-SXM-40GB",
    memory_bytes=39.4 * _GIB,  # what torch finds on the 40 GB card
)
_GRAND_TETON = replace(
    _DGX_H100,
    name="grand-teton",  # Llama 3 (2407.21783) §3.3.1: eight GPUs on NVLink, 400 Gb/s a GPU over RoCE
    accelerator="H100-SXM-96GB-500W",
    memory_bytes=94.5 * _GIB,  # torchtitan's benchmarks: 95 GiB
)
_DGX_2H = replace(
    _DGX_2,
    name="dgx-2h",
    peak_flops_per_second=130e12,  # Megatron-LM §1: 39 TFLOP/s is 30 % of it
)

_ALL = (_SELENE, _DGX_A100, _DGX_A100_40, _DGX_H100, _GRAND_TETON, _JEANZAY)
_CLUSTERS = {cluster.name: cluster for cluster in (*_ALL, _DGX_2, _DGX_2H, _DGX_1)}
