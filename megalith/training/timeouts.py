"""Timeouts of collectives: how long a rank waits for another before it gives the run up.

A rank that is dead is seen by whoever started it; a rank that hangs is not, and only a timeout ends the others' wait.
The first step may take long (groups are made, layers compiled, a file system wakes up). A later one that takes ten
times as long as the first will not come back (BLOOM's chronicles, 2022-05-18; torchtitan). `hangs` names the rank;
torch ends what it cannot end. While the first rank alone checks its inputs or puts the artifact together, the others
wait as long as it takes.
"""

from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from megalith.parallel import Mesh
from megalith.training.hangs import Watch

WHILE_ONE_WORKS_SECONDS = 24 * 3600.0
FIRST_STEP_SECONDS = 1800.0
SHORTEST_SECONDS, STEPS = 300.0, 10
AFTERWARDS_SECONDS = 60.0  # until torch's own timeouts, which name nobody


def later_timeout(first_step_seconds: float) -> float:
    """Collective timeout in seconds for later steps, from the first one's duration."""
    return max(SHORTEST_SECONDS, STEPS * first_step_seconds)


def set_timeout(ranks: Mesh, seconds: float) -> None:
    """Set the timeout of this rank's process groups, except the checkpoint group (torch's 30 minutes)."""
    if ranks.count == 1:
        return
    groups = [dist.group.WORLD, *(ranks.device_mesh.get_all_groups() if ranks.device_mesh else ())]
    for group in groups + ([ranks.context_group] if ranks.context_group else []):
        _set_pg_timeout(timedelta(seconds=seconds), group)


def wait_for(ranks: Mesh, watch: Watch, seconds: float) -> None:
    """Have the ranks wait so long for each other: by the watch, and a little longer by torch's own timeouts."""
    watch.timeout = seconds
    set_timeout(ranks, seconds + AFTERWARDS_SECONDS)
