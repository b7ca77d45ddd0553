"""Where everything lies: the one map of ranks to coordinates, the machines, and which layout fits which machine.

Ground floor, without torch: planning places traffic with this map, and training builds its process groups from it.
"""

from megalith.topology.accelerators import Accelerator, accelerator, known_accelerators
from megalith.topology.checks import check_layout
from megalith.topology.clusters import LOCAL, Cluster, Link, Tier, local_cluster
from megalith.topology.known_clusters import describe, known_clusters
from megalith.topology.layout import AXES, Axis, Coordinates, Layout, layout_of
from megalith.topology.this_machine import this_machine

__all__ = [
    "AXES",
    "LOCAL",
    "Accelerator",
    "Axis",
    "Cluster",
    "Coordinates",
    "Layout",
    "Link",
    "Tier",
    "accelerator",
    "check_layout",
    "describe",
    "known_accelerators",
    "known_clusters",
    "layout_of",
    "local_cluster",
    "this_machine",
]
