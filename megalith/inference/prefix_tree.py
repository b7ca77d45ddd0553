"""Windows of tokens, as forward passes over the tree of their prefixes: what several windows begin with is read once.

Windows in lexicographic order are the tree depth first, and of each only the tokens that the window before it does not
have are new. A pass reads the new tokens of some windows side by side, without padding between them. Of what was read
before, the windows to come can share no more than the path to the next one, so that the keys and values of one path are
all that is kept from pass to pass.

Tokens attend in branches: a few windows with a common path, under a mask that lets each token see its ancestors alone.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from megalith.inference.spans import Ids, Window

Places = NDArray[np.int64]

_MULTIPLE = 16  # tokens of a pass, filled up: what `kernels.linear` asks for
_FEWEST_SHARED = 16  # tokens from which to share is cheaper than to read again
_BRANCH = 128  # tokens up to which short windows attend together, under one mask
_MASKED_ROWS = 512  # tokens that attend together under a mask at most


@dataclass(frozen=True)
class Branch:
    """Tokens of a pass that attend together."""

    first: int
    end: int
    before: Places
    """The slots (P) of the tokens that all of them see: those kept from the pass before, then those of this pass."""
    mask: NDArray[np.bool_] | None
    """Which of `before` and the branch itself each token sees (T, P + T); None for all up to itself."""


@dataclass(frozen=True)
class Pass:
    """One forward pass."""

    tokens: Places
    """(N), filled up with zeros."""
    positions: Places
    """(N), each in its window."""
    branches: list[Branch]
    kept: Places
    """The slots whose keys and values the next pass needs, in the order of their positions."""
    rows: Places
    """The tokens (R) that are followed by one that is scored."""
    pair_rows: Places
    """For each scored token (M), the number of its row; rising."""
    targets: Places
    """The scored tokens (M)."""
    owners: Places
    """The span that each belongs to (M)."""
    read: int
    """Tokens that this pass and those before it read."""


def depth_first(spans: Sequence[Ids], windows: Sequence[Window]) -> list[Window]:
    """Windows in the lexicographic order of the tokens that they read."""
    if len(windows) == 1:
        return list(windows)
    return sorted(windows, key=lambda window: window.read(spans[window.owner]).astype(">i4").tobytes())


@dataclass
class _Item:
    """The new tokens of a window."""

    tokens: Ids
    shared: int
    """Tokens before them that the window before it has too."""


@dataclass
class PassPlan:
    """The passes that score windows, of at least one window each and else of at most `batch_tokens` tokens.

    Each group of windows has passes of its own, which do not depend on the other groups.
    """

    spans: Sequence[Ids]
    groups: Sequence[Sequence[Window]]
    batch_tokens: int
    sliding_window: int | None = None
    tokens: int = field(init=False, default=0)
    """Tokens that are read in all."""
    ends: Places = field(init=False)
    """For each span, how many tokens are read when it is scored."""

    def __post_init__(self) -> None:
        items: list[_Item] = []
        starts: list[int] = []  # items that begin a group
        where, targets, owners = [], [], []
        self.ends = np.zeros(len(self.spans), np.int64)
        for group in self.groups:
            starts.append(len(items))
            before, places = np.empty(0, np.int32), np.empty(0, np.int64)
            for window in depth_first(self.spans, group):
                ids = self.spans[window.owner]
                read = window.read(ids)
                shared = _shared(before, read)
                if shared < min(_FEWEST_SHARED, len(read)):
                    shared = 0
                items.append(_Item(read[shared:], shared))
                new = self.tokens + np.arange(len(read) - shared)
                places = np.concatenate([places[:shared], new])
                self.tokens += len(new)
                scored = places[window.first - 1 - window.begin :]
                where.append(scored)
                targets.append(ids[window.first : window.end])
                owners.append(np.full(len(scored), window.owner))
                self.ends[window.owner] = max(self.ends[window.owner], scored.max() + 1)
                before = read
        self._items, self._starts = items, set(starts)
        self._where = np.concatenate(where) if where else np.empty(0, np.int64)
        order = np.argsort(self._where, kind="stable")
        self._where = self._where[order]
        self._targets = np.concatenate(targets)[order] if targets else np.empty(0, np.int32)
        self._owners = np.concatenate(owners)[order] if owners else np.empty(0, np.int64)

    def passes(self) -> Iterator[Pass]:
        """Each pass, in order."""
        cuts = [*self._cuts(), (len(self._items), self.tokens)]
        path = np.empty(0, np.int64)
        for (first, begin), (end, after) in itertools.pairwise(cuts):
            items = self._items[first:end]
            cached = items[0].shared
            branches, path = _branches(items, cached, self.sliding_window)
            following = self._items[end].shared if end < len(self._items) and end not in self._starts else 0
            low, high = np.searchsorted(self._where, [begin, after])
            rows, pair_rows = np.unique(self._where[low:high] - begin, return_inverse=True)
            tokens = np.concatenate([item.tokens for item in items]).astype(np.int64)
            positions = np.concatenate([item.shared + np.arange(len(item.tokens)) for item in items])
            filling = (0, -len(tokens) % _MULTIPLE)
            yield Pass(
                tokens=np.pad(tokens, filling),
                positions=np.pad(positions, filling),
                branches=branches,
                kept=path[:following],
                rows=rows,
                pair_rows=pair_rows,
                targets=self._targets[low:high].astype(np.int64),
                owners=self._owners[low:high],
                read=after,
            )

    def _cuts(self) -> list[tuple[int, int]]:
        """The first item of each pass, and the tokens read before it."""
        cuts: list[tuple[int, int]] = []
        read = 0
        for number, item in enumerate(self._items):
            new = len(item.tokens)
            if number in self._starts or (new and read + new - cuts[-1][1] > self.batch_tokens and read > cuts[-1][1]):
                cuts.append((number, read))
            read += new
        return cuts


def _shared(one: Ids, other: Ids) -> int:
    """The length of the common prefix."""
    least = min(len(one), len(other))
    differs = one[:least] != other[:least]
    return int(differs.argmax()) if differs.any() else least


def _branches(items: Sequence[_Item], cached: int, sliding_window: int | None) -> tuple[list[Branch], Places]:
    """The branches of a pass whose first item has `cached` tokens in the cache, and the slots of its last window."""
    branches: list[Branch] = []
    path: Places = np.arange(cached)
    at = 0
    number = 0
    while number < len(items):
        taken = _taken(items, number)
        common = items[number].shared
        masks = _Growing(at, path[:common], common, sliding_window)
        for item in items[number : number + taken]:
            count = len(item.tokens)
            path = np.concatenate([path[: item.shared], cached + at + np.arange(count)])
            if taken == 1 and count:
                branches += _chain(at, count, path, item.shared, sliding_window)
            elif count:
                masks.add(item.shared, count)
            at += count
        if taken > 1 and masks.count:
            branches.append(masks.branch())
        number += taken
    return branches, path


def _taken(items: Sequence[_Item], number: int) -> int:
    """How many items from this one on attend together: short ones that go on from where the first begins."""
    common, count, taken = items[number].shared, len(items[number].tokens), 1
    for item in items[number + 1 :]:
        count += len(item.tokens)
        if count > _BRANCH or item.shared < common:
            break
        taken += 1
    return taken


def _chain(at: int, count: int, path: Places, shared: int, window: int | None) -> Iterator[Branch]:
    """The tokens of one window, each of which sees all before it; in pieces where a mask is needed."""
    if shared == 0 and (window is None or count <= window):
        yield Branch(at, at + count, path[:0], None)
        return
    for first in range(0, count, _MASKED_ROWS):
        end = min(first + _MASKED_ROWS, count)
        position = shared + first
        piece = _Growing(at + first, path[:position], position, window)
        piece.add(position, end - first)
        yield piece.branch()


class _Growing:
    """A branch under a mask, window by window."""

    def __init__(self, first: int, before: Places, common: int, window: int | None) -> None:
        """`common` tokens stand before all of it, in the slots `before`."""
        self.count = 0
        self._first, self._common, self._window = first, common, window
        seen = 0 if window is None else max(0, common - window + 1)
        self._before, self._before_positions = before[seen:], np.arange(seen, common)
        self._path: Places = np.empty(0, np.int64)
        self._parts: list[tuple[Places, int]] = []
        self._positions: list[Places] = []

    def add(self, shared: int, count: int) -> None:
        """Add a window's new tokens, of which there are `count`, after its first `shared`."""
        ancestors = self._path[: shared - self._common]
        self._parts.append((ancestors, count))
        self._positions.append(shared + np.arange(count))
        self._path = np.concatenate([ancestors, self.count + np.arange(count)])
        self.count += count

    def branch(self) -> Branch:
        """The whole of it."""
        known = len(self._before)
        mask = np.zeros((self.count, known + self.count), np.bool_)
        mask[:, :known] = True
        at = 0
        for ancestors, count in self._parts:
            mask[at : at + count, known + ancestors] = True
            mask[at : at + count, known + at : known + at + count] = np.tri(count, dtype=np.bool_)
            at += count
        if self._window is not None:
            own = np.concatenate(self._positions)
            seen = np.concatenate([self._before_positions, own])
            mask &= own[:, None] - seen[None] < self._window
        return Branch(self._first, self._first + self.count, self._before, mask)
