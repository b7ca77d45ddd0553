"""A step watched operation by operation: the messages that it sends and the storages that it makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import FakeTensor
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megalith.parallel import Mesh
from megalith.planning.dryrun.collectives import Collectives
from megalith.planning.dryrun.host import Host
from megalith.planning.dryrun.storages import Storages

_DEVICE = torch.ops.prim.device.default
_WAIT = torch.ops._c10d_functional.wait_tensor.default
_OUTSIDE = (DTensor, AsyncCollectiveTensor)
"""They turn into operations on their local tensors first, and these are what counts."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees fake tensors and real ones alike."""

    def __init__(self, ranks: Mesh, block_bytes: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.storages = storages = Storages(block_bytes)
        self.collectives = Collectives(ranks, lambda tensor: storages.kind(tensor) == "working")
        self.host = Host()
        self._fake: Any = None

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        """Within it, everything is seen; fake tensors are to be on before."""
        self._fake = active_fake_mode()
        with self, self.storages.watching_sizes(), self.host.watching_copies():
            yield self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _DEVICE and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        if any(issubclass(each, _OUTSIDE) for each in types):
            return NotImplemented
        if func is _WAIT and self._fake is not None:
            return args[0]  # as it is; only the fake one is a new tensor
        out = func(*args, **kwargs)
        if active_fake_mode() is not self._fake:
            return out  # DTensor has fake tensors of its own to find out shapes
        self.host.see(func, args)
        if "c10d" in func.namespace:
            self.collectives.see(func, args, out)
        backward = torch._C._current_graph_task_id() != -1
        for each in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(each, Tensor) and not each.is_meta:
                self.storages.see(each, "working" if backward else "activations")
        return out
