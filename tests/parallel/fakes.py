"""Any rank of any world in one process: its collectives are counted, and do nothing."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed.tensor.debug import CommDebugMode
from torch.testing._internal.distributed.fake_pg import FakeStore

from megalith.parallel import Mesh, build_mesh
from megalith.recipe.machine import ParallelConfig


@contextmanager
def fake_ranks(parallel: ParallelConfig, world: int, rank: int = 0) -> Iterator[Mesh]:
    """This process as `rank` of `world`."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
    try:
        yield build_mesh(Mesh(rank, world), parallel)
    finally:
        dist.destroy_process_group()


def collectives(work: Callable[[], object]) -> Counter[str]:
    """How often `work` calls each kind of collective."""
    with _Mode() as mode:
        work()
    kinds = {"allreduce": "all_reduce", "_reduce_scatter_base": "reduce_scatter", "_allgather_base": "all_gather"}
    kinds |= {"reduce_scatter_tensor": "reduce_scatter", "all_gather_into_tensor": "all_gather"}
    found: Counter[str] = Counter()
    for operation, count in mode.get_comm_counts().items():
        name = str(operation).split(".")[-1].removesuffix("_")
        found[kinds.get(name, name)] += count
    return found


class _Mode(CommDebugMode):
    """Without its tracker of modules, which loses its way where one is called twice, as a layer's dropout is."""

    def __enter__(self) -> "_Mode":
        super().__enter__()
        self.advanced_module_tracker.__exit__()
        return self
