"""This machine as a cluster: its GPUs, or else its cores."""

from megalith.machine import cpu_name, total_memory_bytes, usable_cores
from megalith.topology.clusters import Cluster, local_cluster


def this_machine() -> Cluster:
    """The accelerators that torch finds; how fast they exchange is not known here."""
    import torch  # seconds of start-up, which a question about a cluster does without

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return local_cluster(card.name, torch.cuda.device_count(), card.total_memory)
    return local_cluster(cpu_name(), usable_cores(), total_memory_bytes() / usable_cores())
