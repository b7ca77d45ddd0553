"""Where everything lies: the one map of ranks to coordinates, the machines, and which layout fits which machine.

Ground floor, without torch: planning places traffic with this map, and training builds its mesh from it.
"""

from megalith.topology.accelerators import Accelerator, accelerator
from megalith.topology.checks import check_layout, refuse_planned_settings, trains_context
from megalith.topology.cluster_file import described_clusters
from megalith.topology.clusters import LOCAL, Cluster, Link, Tier, local_cluster
from megalith.topology.heads import (
    KeyHeads,
    exchanged_key_heads,
    key_heads,
    key_heads_computed,
    key_heads_on_a_rank,
    shares_key_heads,
)
from megalith.topology.known_clusters import describe, known_clusters
from megalith.topology.layout import (
    AXES,
    MESH_AXES,
    Axis,
    Coordinates,
    Layout,
    MeshAxis,
    layout_of,
    mesh_shape,
    shard_ranks,
)
from megalith.topology.this_machine import node_of, this_machine

__all__ = [
    "AXES",
    "LOCAL",
    "MESH_AXES",
    "Accelerator",
    "Axis",
    "Cluster",
    "Coordinates",
    "KeyHeads",
    "Layout",
    "Link",
    "MeshAxis",
    "Tier",
    "accelerator",
    "check_layout",
    "describe",
    "described_clusters",
    "exchanged_key_heads",
    "key_heads",
    "key_heads_computed",
    "key_heads_on_a_rank",
    "known_clusters",
    "layout_of",
    "local_cluster",
    "mesh_shape",
    "node_of",
    "refuse_planned_settings",
    "shard_ranks",
    "shares_key_heads",
    "this_machine",
    "trains_context",
]
