"""A tape of allocations: what is held after a run of operations, and the most that was held on the way."""

from typing import NamedTuple


class Segment(NamedTuple):
    """Bytes that a run of operations leaves behind, and its peak, both over what there was before."""

    net: float = 0.0
    peak: float = 0.0

    def then(self, after: "Segment") -> "Segment":
        """This run, and another one after it."""
        return Segment(self.net + after.net, max(self.peak, self.net + after.peak))

    def times(self, count: int) -> "Segment":
        """This run, so many times."""
        if count <= 0:
            return Segment()
        return Segment(count * self.net, max(self.peak, (count - 1) * self.net + self.peak))


class Tape:
    """Written by walking through the operations in their order."""

    __slots__ = ("now", "peak")

    def __init__(self) -> None:
        self.now = self.peak = 0.0

    def make(self, *sizes: float) -> None:
        """Allocate one after the other."""
        for size in sizes:
            self.now += size
        if self.now > self.peak:
            self.peak = self.now

    def drop(self, *sizes: float) -> None:
        """Give back."""
        for size in sizes:
            self.now -= size

    def swap(self, new: float, *old: float) -> None:
        """Make one, and only then give back the others."""
        self.make(new)
        self.drop(*old)

    def done(self) -> Segment:
        """The segment written so far."""
        return Segment(self.now, self.peak)
