"""Bytes as an allocator sees them: every storage of a step, from the operation that makes it to its last reference.

Of the device's memory it knows what torch allocates, in blocks: not the driver's own share, nor what lies unused
between blocks.
"""

import math
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["weights", "masters", "gradients", "optimizer", "gathered", "activations", "working"]
KINDS: tuple[Kind, ...] = ("weights", "masters", "gradients", "optimizer", "gathered", "activations", "working")
"""gathered: weights that ZeRO has put together. activations: made in forward passes, and what is received. working:
made in backward passes, what they compute again among it."""


@dataclass(slots=True)
class _Life:
    """A storage at one size."""

    bytes: int
    kind: Kind
    born: int
    died: int | None = None


class Storages:
    """The storages that are alive, and the moment at which they took the most."""

    def __init__(self, block_bytes: int = 1) -> None:
        """An allocation takes whole blocks."""
        self._block_bytes = block_bytes
        self._alive: dict[int, tuple[weakref.ref[Any], _Life]] = {}
        self._lives: list[_Life] = []
        self._clock = 0
        self._now = 0
        self.peak_bytes = 0
        self._peak_clock = 0

    def see(self, tensor: Tensor, kind: Kind) -> None:
        """Take note of a tensor's storage; one that is known keeps its kind."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._alive:
            life = self._begin(storage.nbytes(), kind)
            self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, life)), life

    def mark(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Say what these are, if nobody has said it before."""
        for tensor in tensors:
            known = self._alive.get(tensor.untyped_storage()._cdata)
            if known is not None and known[1].kind in ("activations", "working"):
                known[1].kind = kind

    def kind(self, tensor: Tensor) -> Kind | None:
        """The kind of the tensor's storage."""
        known = self._alive.get(tensor.untyped_storage()._cdata)
        return known[1].kind if known else None

    def begin_step(self) -> None:
        """Look for the peak from here on."""
        self._lives = [life for _, life in self._alive.values()]
        self.peak_bytes, self._peak_clock = self._now, self._clock

    def at_peak(self) -> dict[Kind, int]:
        """Bytes by kind at the moment of the peak."""
        held = Counter[Kind]()
        for life in self._lives:
            if life.born <= self._peak_clock and (life.died is None or life.died > self._peak_clock):
                held[life.kind] += life.bytes
        return {kind: held[kind] for kind in KINDS}

    def held(self, tensors: Iterable[Tensor]) -> int:
        """Bytes of the storages behind these."""
        storages = {each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in tensors}
        return sum(self._rounded(nbytes) for nbytes in storages.values())

    @contextmanager
    def watching_sizes(self) -> Iterator[None]:
        """Within it, storages that are resized are seen: FSDP2 empties gathered weights and fills them again."""
        original: Any = torch.UntypedStorage.resize_

        def resize(storage: torch.UntypedStorage, size: int) -> None:
            original(storage, size)
            known = self._alive.get(storage._cdata)
            if known is not None:
                self._resize(storage, known)

        torch.UntypedStorage.resize_ = resize  # type: ignore[assignment,method-assign]  # no dispatch mode sees it
        try:
            yield
        finally:
            torch.UntypedStorage.resize_ = original  # type: ignore[method-assign]  # as it was

    def _resize(self, storage: torch.UntypedStorage, known: tuple[weakref.ref[Any], _Life]) -> None:
        key, (_, life) = storage._cdata, known
        life.kind = "gathered"
        self._end(life)
        after = self._begin(storage.nbytes(), "gathered")
        self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, after)), after

    def _begin(self, nbytes: int, kind: Kind) -> _Life:
        self._clock += 1
        life = _Life(self._rounded(nbytes), kind, self._clock)
        self._lives.append(life)
        self._now += life.bytes
        if self._now > self.peak_bytes:
            self.peak_bytes, self._peak_clock = self._now, self._clock
        return life

    def _end(self, life: _Life) -> None:
        self._clock += 1
        life.died = self._clock
        self._now -= life.bytes

    def _forget(self, key: int, life: _Life) -> None:
        if self._alive.get(key, (None, None))[1] is life:
            del self._alive[key]
            self._end(life)

    def _rounded(self, nbytes: int) -> int:
        return math.ceil(nbytes / self._block_bytes) * self._block_bytes
