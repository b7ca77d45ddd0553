"""This machine as a cluster: its GPUs, or else its cores."""

import re
from dataclasses import replace

from megalith.machine import Accelerators, accelerators, cpu_name, total_memory_bytes, usable_cores
from megalith.topology.clusters import Cluster, local_cluster

_FORM = re.compile(r"SXM\d*|OAM|\d+GB|\d+W")  # of a datasheet's name: how it is built in, its memory, its limit
_OTHERS = {"PCIE", "NVL", "MAX", "LAPTOP", "MIG"}  # of a card's name: slower cores or links than the datasheet's
_MEMORY_ERROR = 0.1  # relative: a card of 80 GB shows 79.1 GiB, one of 40 GB 39.4


def this_machine() -> Cluster:
    """The accelerators that torch finds; how fast they exchange is not known here."""
    found = accelerators()
    if found is not None:
        return local_cluster(found.name, found.count, found.memory_bytes)
    return local_cluster(cpu_name(), usable_cores(), total_memory_bytes() / usable_cores())


def node_of(found: Accelerators, described: list[Cluster]) -> Cluster | None:
    """A node of `described` with these accelerators, as many as there are; None where their datasheet is not known.

    Its links are those of the node that is described: whether these GPUs have them, only a measurement can say.
    """
    fitting = [cluster for cluster in described if _is_made_of(cluster, found)]
    if not fitting:
        return None
    card = _words(found.name)
    best = min(  # the one whose name says most of the card's, and a product rather than one site
        fitting, key=lambda cluster: (-len(card & _words(cluster.accelerator)), cluster.most_nodes is not None)
    )
    return replace(best, nodes=1, accelerators_per_node=found.count, memory_bytes=found.memory_bytes)


def _is_made_of(cluster: Cluster, found: Accelerators) -> bool:
    card, datasheet = _words(found.name), _words(cluster.accelerator)
    kind = {word for word in datasheet if not _FORM.fullmatch(word)}
    if not kind or not kind <= card or (card & _OTHERS) - datasheet:
        return False
    return abs(found.memory_bytes / cluster.memory_bytes - 1) < _MEMORY_ERROR


def _words(name: str) -> set[str]:
    return set(re.split(r"[\s-]+", name.upper()))
