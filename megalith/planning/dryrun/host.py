"""The host in a step: numbers that it waits for, and tensors that it copies to the device.

A host that waits for a number (`item`, `tolist`, a tensor as a condition, `nonzero`) gives the device no work until it
has it. Fake tensors say that they lie on the CPU, so that copies are counted where the program makes them (`onto`).
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import megalith
from megalith.parallel import distributed_model
from megalith.planning.dryrun.collectives import Amount

_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
_HOME = Path(megalith.__file__).parent
_OWN = _HOME / "planning" / "dryrun"


class Host:
    """Waits and copies since `clear`."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        """How often the host waits, by the place in Megalith's code."""
        self.copies = Amount()
        self._last: object = None

    def clear(self) -> None:
        """Begin to count anew."""
        self.waits.clear()
        self.copies = Amount()

    def see(self, func: Any, args: Any) -> None:
        """Take note of an operation; numbers of one tensor that are read one after another are one wait."""
        if func not in _READS:
            self._last = None if func.namespace == "aten" and not _is_view(func) else self._last
            return
        storage = args[0].untyped_storage()._cdata
        if storage != self._last:
            self.waits[_place()] += 1
        self._last = storage

    @contextmanager
    def watching_copies(self) -> Iterator[None]:
        """Within it, copies to the device are seen."""
        plain = distributed_model.onto

        def onto(tensor: Tensor, device: torch.device) -> Tensor:
            self.copies.add(tensor.nbytes)
            return plain(tensor, device)

        with patch.object(distributed_model, "onto", onto):
            yield


def _is_view(func: Any) -> bool:
    return any(each.alias_info is not None and not each.alias_info.is_write for each in func._schema.arguments)


def _place() -> str:
    """The innermost function of Megalith, the dry run left out, that is being run."""
    frame: Any = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_HOME) and not path.is_relative_to(_OWN):
            return f"{path.relative_to(_HOME).with_suffix('')}: {frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
