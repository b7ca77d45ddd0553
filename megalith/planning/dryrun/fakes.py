"""Tensors without memory, and ranks that are not there: one process takes any rank's place in a job of any size.

torch's FakeTensorMode runs every operation for its shapes and types alone, and its fake process group lets every
message arrive at once. Both are torch's own and private in 2.13, which is pinned for that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.distributed.tensor import _redistribute
from torch.distributed.tensor.debug import _clear_sharding_prop_cache
from torch.testing._internal.distributed.fake_pg import FakeStore

from megalith.parallel import Mesh
from megalith.planning.performance.traffic import MASKED_SHARE

_aten = torch.ops.aten


class FakeTensors(FakeTensorMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Tensors made within it have a shape and no memory.

    Tensors that were real before stay so, and so do those on torch's own device `meta`, on which a model is built. A
    number that the program asks of a fake tensor is 1, which is finite. Of a bert's tokens the usual share is masked.
    """

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not types and _is_real(func, args, kwargs):
            return func(*args, **kwargs)
        if func is _aten.nonzero.default:
            (tensor,) = args
            return tensor.new_empty(round(MASKED_SHARE * tensor.numel()), tensor.ndim, dtype=torch.long)
        try:
            return super().__torch_dispatch__(func, types, args, kwargs)
        except DataDependentOutputException:
            if func is not _aten._local_scalar_dense.default:
                raise
            return 1.0 if args[0].is_floating_point() else 1


def _is_real(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation on no fake tensor gives a real one."""
    device = kwargs.get("device")
    if device is not None:
        return torch.device(device).type == "meta"
    return func is not _aten.lift_fresh.default and any(isinstance(each, torch.Tensor) for each in args)


@contextmanager
def fake_ranks(rank: int, world: int) -> Iterator[Mesh]:
    """This process as `rank` among `world` that are not there. No process group may exist."""
    forget_meshes()
    if world > 1:
        dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    try:
        yield Mesh(rank, world)
    finally:
        if world > 1:
            dist.destroy_process_group()
        forget_meshes()


def forget_meshes() -> None:
    """DTensor remembers what it has worked out by the mesh, and takes the meshes of two ranks for the same one."""
    _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    _redistribute._gen_transform_infos.cache_clear()
