"""How long a rank waits for another in a collective before it gives the run up.

A rank that is dead is seen by whoever started it; a rank that hangs is not, and only a timeout ends the others' wait.
The first step may take long (groups are made, layers compiled, a file system wakes up). A later one that takes ten
times as long as the first will not come back (BLOOM's chronicles, 2022-05-18; torchtitan). While the first rank alone
checks its inputs or puts the artifact together, the others wait as long as it takes.
"""

from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import _set_pg_timeout

from megalith.parallel import Ranks

WHILE_ONE_WORKS_SECONDS = 24 * 3600.0
FIRST_STEP_SECONDS = 1800.0
SHORTEST_SECONDS, STEPS = 300.0, 10


def after_first_step(seconds: float) -> float:
    """What to wait at most when the first step has taken so long."""
    return max(SHORTEST_SECONDS, STEPS * seconds)


def wait_at_most(ranks: Ranks, seconds: float) -> None:
    """From now on, for all of this rank's groups but the one that saves, which keeps torch's half hour."""
    if ranks.count == 1:
        return
    for group in (dist.group.WORLD, *(ranks.mesh.get_all_groups() if ranks.mesh else ())):
        _set_pg_timeout(timedelta(seconds=seconds), group)
