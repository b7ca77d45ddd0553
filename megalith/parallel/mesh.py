"""The processes that train together, and their mesh, which is the rank map of `topology`."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from megalith.errors import ResourceError
from megalith.recipe.machine import ParallelConfig
from megalith.topology import MESH_AXES, Layout, MeshAxis, mesh_shape, shard_ranks

T = TypeVar("T")
Axis = MeshAxis
CPU = torch.device("cpu")
AXES = MESH_AXES
RESTARTS = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True)
class Mesh:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    device_mesh: DeviceMesh | None = None
    """None before `build_mesh`, and of a single process."""
    device: torch.device = CPU
    context: int = 1
    """Ranks that share each sample: neighbours among those that add up their gradients."""
    context_group: dist.ProcessGroup | None = None
    """These ranks; None where a rank has whole samples."""

    @property
    def is_rank_zero(self) -> bool:
        """Whether this rank writes and shows."""
        return self.rank == 0

    def size(self, axis: Axis) -> int:
        """Ranks along an axis."""
        return 1 if self.device_mesh is None else self.device_mesh.size(AXES.index(axis))

    def index(self, axis: Axis) -> int:
        """This rank's place along an axis."""
        return 0 if self.device_mesh is None else self.device_mesh.get_local_rank(axis)

    @property
    def gradient_ranks(self) -> int:
        """Ranks that add up their gradients: those that share the batch, and those that share a sample."""
        return self.size("replicate") * self.size("shard")

    @property
    def data_size(self) -> int:
        """Parts of the batch, of whole samples, of which each rank works on one."""
        return self.gradient_ranks // self.context

    @property
    def data_index(self) -> int:
        """The number of this rank's part of the batch."""
        return self._gradient_index // self.context

    @property
    def context_index(self) -> int:
        """This rank's place among those that share its samples."""
        return self._gradient_index % self.context

    @property
    def is_first_reader(self) -> bool:
        """Whether this rank is the first of those that read the same samples."""
        return self.index("tensor") == self.index("pipeline") == self.context_index == 0

    @property
    def _gradient_index(self) -> int:
        return self.index("replicate") * self.size("shard") + self.index("shard")

    def submesh(self, *axes: Axis) -> DeviceMesh:
        """The mesh of the ranks that differ from this one in these axes alone."""
        if self.device_mesh is None:
            raise ValueError("a single process has no mesh")
        return self.device_mesh[axes]

    def sum(self, *values: float) -> list[float]:
        """Each value added over all ranks, in fp64, by their processors: no GPU is waited for."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: T) -> list[T]:
        """Each rank's value, in rank order, on every rank."""
        found = [value] * self.count
        if self.count > 1:
            dist.all_gather_object(found, value)
        return found


def init_process_group(store: Path | None = None) -> Mesh:
    """Join the process group of the processes started beside this one: by the file `store`, or as torchrun or srun say.

    RANK and WORLD_SIZE in the environment say which this one is.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = own_device()
    remember_collectives()
    if count > 1 and not dist.is_initialized():
        backend = backend_of(device)
        if store is None and os.environ.get("LOCAL_WORLD_SIZE") == str(count) and RESTARTS in os.environ:
            dist.init_process_group(backend, store=_store_of_this_start(rank, count), rank=rank, world_size=count)
        elif store is None:
            dist.init_process_group(backend)
        else:
            dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=count)
    return Mesh(rank, count, device=device)


def _store_of_this_start(rank: int, count: int) -> Store:
    """The store of torchrun's agent, under a name of this start.

    The agent keeps it from one start to the next, with the addresses of ranks that are gone, at which gloo would look
    for the others (torch 2.13). The number of starts is the same on all ranks only where there is one agent; several
    make a new store each time if TORCH_DISABLE_SHARE_RDZV_TCP_STORE is 1.
    """
    store, _, _ = next(rendezvous("env://", rank, count))
    return PrefixStore(f"start-{os.environ[RESTARTS]}", store)


def backend_of(device: torch.device) -> str:
    """The collectives of processes that compute on `device`; tensors of the CPU always go over gloo."""
    return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"


def remember_collectives() -> None:
    """Have torch remember the last collectives, also gloo's, for `flight` to read: before the first group is made."""
    os.environ.setdefault("TORCH_FR_BUFFER_SIZE", "2000")  # its default for NCCL


def own_device() -> torch.device:
    """The GPU of this process (LOCAL_RANK says which), or the CPU. Raises ResourceError where there are fewer GPUs."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise ResourceError(
            f"this machine has {count} GPUs, and {local + 1} processes or more were started on it.",
            where="parallel",
            mend="Start one process a GPU (set tensor × pipeline × data to as many as there are), or hide the GPUs "
            "with CUDA_VISIBLE_DEVICES= to train on the CPU.",
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def build_mesh(ranks: Mesh, parallel: ParallelConfig) -> Mesh:
    """Build the device mesh of the layout that `parallel` asks for. Every rank must call it."""
    if ranks.count == 1:
        return ranks
    tensor, pipeline, context = parallel.tensor or 1, parallel.pipeline or 1, parallel.context or 1
    layout = Layout(tensor, pipeline, ranks.count // (tensor * pipeline * context), context)
    shape = mesh_shape(layout, shard_ranks(parallel.zero, parallel.zero_shard, layout.gradient_ranks))
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=AXES)
    group = None
    if context > 1:
        groups = [list(each) for each in layout.groups("context")]
        group, _ = dist.new_subgroups_by_enumeration(groups)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return replace(ranks, device_mesh=mesh, context=context, context_group=group)
