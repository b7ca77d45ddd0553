"""A picture of steps in CSS pixels: rectangles, lines and words with a place, for whoever draws them (`svg`, `png`).

All steps stand one under the other on one time axis: a row a rank, and under the rows what each rank holds. On a row
lie its work and, at its foot, its sends; what is left grey is the bubble. The width grows with the number of actions
up to a limit; from there on, actions get narrow, and numbers on them and sends too short to be seen are left out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal, NamedTuple

from megalith.console import human_bytes, human_seconds
from megalith.planning.timeline.colours import DEEP
from megalith.planning.timeline.step import Block, Clock, Kind, Step, kinds_of

NARROWEST, WIDEST = 1120.0, 3400.0
WANTED = 22.0  # of the shortest action
LEFT, RIGHT, TOP = 76.0, 24.0, 84.0
HEADING, AXIS, MEMORY, GAP = 46.0, 40.0, 120.0, 34.0
LINE = 1.4


class Boxes(NamedTuple):
    """Rectangles (x, y, width, height) of one colour."""

    role: str
    opacity: float
    boxes: Sequence[tuple[float, float, float, float]]


class Words(NamedTuple):
    """Text; y is its base line."""

    x: float
    y: float
    text: str
    role: str = "ink"
    size: float = 12.0
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False


class Line(NamedTuple):
    """A line through points (x, y)."""

    role: str
    width: float
    opacity: float
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scene:
    """Shapes to draw, in order."""

    width: float
    height: float
    title: str
    items: list[Boxes | Words | Line] = field(default_factory=list)


@dataclass(frozen=True)
class _Frame:
    """Where a step lies, and how seconds become pixels."""

    step: Step
    top: float
    row: float
    plot: float
    seconds: float
    most: float

    def x(self, seconds: float) -> float:
        return LEFT + self.plot * seconds / self.seconds

    def y(self, rank: int) -> float:
        return self.top + rank * self.row

    @property
    def foot(self) -> float:
        return self.y(len(self.step.lists))


def scene(title: str, steps: Sequence[Step]) -> Scene:
    """All of `steps` under `title`, on one time axis."""
    seconds = max(step.step_seconds for step in steps) or 1.0
    most = max(max(step.peaks) for step in steps) or 1.0
    plot = max(min(WANTED * seconds / _shortest(steps), WIDEST), NARROWEST)
    frames, top = [], TOP
    for step in steps:
        row = _row_height(len(step.lists))
        frames.append(_Frame(step, top + HEADING, row, plot, seconds, most))
        top = frames[-1].foot + AXIS + MEMORY + GAP
    made = Scene(LEFT + plot + RIGHT, top, title)
    made.items.append(Words(16, 32, title, size=19, bold=True))
    made.items.extend(_legend(steps))
    for frame in frames:
        for part in (_heading, _ranks, _axis, _memory):
            made.items.extend(part(frame))
    return made


def headline(step: Step) -> str:
    """The figures over a step."""
    fullest = max(range(len(step.peaks)), key=step.peaks.__getitem__)
    peak, has = step.peaks[fullest], step.held.capacity_bytes if step.held else None
    over = f", and the accelerator has {human_bytes(has)}" if has is not None and peak > has else ""
    return (
        f"step {told_time(step.step_seconds, step.timing.clock)} · bubble {100 * step.bubble_fraction:.1f} % · "
        f"peak {told_amount(step, peak)}, on rank {fullest}{over}"
    )


def told_time(time: float, clock: Clock) -> str:
    """A time with its unit."""
    return human_seconds(time) if clock == "seconds" else f"{time:.4g} forwards"


def told_amount(step: Step, amount: float) -> str:
    """A rank's memory, with its unit."""
    if step.held is not None:
        return human_bytes(amount)
    return f"{amount:.3g} micro-batch{'es' if amount != 1 else ''}"


def axis_of(seconds: float, clock: Clock) -> tuple[float, str]:
    """A unit of the time axis in seconds, and its name."""
    if clock == "forwards":
        return 1.0, "forwards of one micro-batch"
    return next(((unit, word) for unit, word in ((1.0, "s"), (1e-3, "ms")) if seconds >= 2 * unit), (1e-6, "µs"))


def ticks(reach: float, wanted: int) -> list[float]:
    """Round numbers from 0 up to `reach`, at most about `wanted` of them."""
    rough = reach / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * apart for number in range(int(reach / apart + 1e-9) + 1)]


def opacity(step: Step, block: Block) -> float:
    """Later stages of a rank are paler."""
    virtual = step.stages // len(step.lists)
    turn = block.action.stage // len(step.lists) if block.action else 0
    return 1.0 if virtual == 1 else 1.0 - 0.5 * turn / (virtual - 1)


def _shortest(steps: Sequence[Step]) -> float:
    every = (span.end_seconds - span.start_seconds for step in steps for row in step.pipeline.ranks for span in row)
    return min((seconds for seconds in every if seconds > 0), default=1.0)


def _row_height(ranks: int) -> float:
    return 26.0 if ranks <= 8 else 19.0 if ranks <= 16 else max(3.0, min(16.0, 560 / ranks))


def _legend(steps: Sequence[Step]) -> Iterator[Boxes | Words]:
    x, y = 16.0, 52.0
    for role in [*kinds_of(steps), "bubble"]:
        high = 4.0 if role is Kind.SEND else 13.0
        yield Boxes(role, 1.0, [(x, y + 13 - high, 18, high)])
        yield Words(x + 25, y + 11, role, "ink", 12.5)
        x += 25 + 7.1 * len(role) + 22


def _heading(frame: _Frame) -> Iterator[Words]:
    y = frame.top - 16
    yield Words(16, y, frame.step.schedule, size=15, bold=True)
    yield Words(16 + 9.6 * len(frame.step.schedule) + 18, y, headline(frame.step), size=13.5)


def _ranks(frame: _Frame) -> Iterator[Boxes | Words]:
    step, row = frame.step, frame.row
    gap = 2.0 if row >= 10 else 0.0
    strip = max(2.0, 0.16 * row) if row >= 8 else 0.0
    whole = frame.x(step.step_seconds) - LEFT
    yield Boxes("bubble", 1.0, [(LEFT, frame.y(rank), whole, row - gap) for rank in range(len(step.lists))])
    every = max(1, math.ceil(13 / row))
    for rank in range(0, len(step.lists), every):
        yield Words(LEFT - 8, frame.y(rank) + row / 2 + 3.5, f"rank {rank}", "muted", 11, "end")
    shown = [
        ((block.kind, opacity(step, block)), _box(frame, block, frame.y(rank), row - gap - strip), block)
        for rank, blocks in enumerate(step.work)
        for block in blocks
    ]
    shown.sort(key=lambda one: one[0])
    for (kind, opaque), alike in groupby(shown, key=lambda one: one[0]):
        yield Boxes(kind, opaque, [box for _, box, _ in alike])
    if strip:
        sent = [
            _box(frame, block, frame.y(rank) + row - gap - strip, strip)
            for rank, blocks in enumerate(step.sends)
            for block in blocks
        ]
        yield Boxes(Kind.SEND, 1.0, [box for box in sent if box[2] >= 0.25])
    yield from _numbers([(box, block) for _, box, block in shown if block.action])


def _box(frame: _Frame, block: Block, y: float, height: float) -> tuple[float, float, float, float]:
    x, end = frame.x(block.start_seconds), frame.x(block.end_seconds)
    return x, y, end - x - (0.8 if end - x > 5 else 0.0), height


def _numbers(shown: Sequence[tuple[tuple[float, float, float, float], Block]]) -> Iterator[Words]:
    """The micro-batches on the actions, if all of them have the room."""
    if not shown:
        return
    longest = max(len(str(block.action.micro_batch)) for _, block in shown if block.action)
    if min(box[2] for box, _ in shown) < 6.5 * longest + 3 or shown[0][0][3] < 11:
        return
    for (x, y, width, height), block in shown:
        role = "on-deep" if block.kind in DEEP else "on-pale"
        text = str(block.action.micro_batch) if block.action else ""
        yield Words(x + width / 2, y + height / 2 + 3.8, text, role, 10.5, "middle")


def _axis(frame: _Frame) -> Iterator[Words | Line]:
    unit, word = axis_of(frame.seconds, frame.step.timing.clock)
    y = frame.foot + 4
    yield Line("muted", 1.0, 1.0, [(LEFT, y), (LEFT + frame.plot, y)])
    marks = ticks(frame.seconds / unit, int(frame.plot / 110))
    for number in marks:
        x = frame.x(number * unit)
        yield Line("muted", 1.0, 1.0, [(x, y), (x, y + 4)])
        yield Words(x, y + 17, f"{number:g}{f' {word}' if number == marks[-1] else ''}", "muted", 11, "middle")


def _memory(frame: _Frame) -> Iterator[Words | Line]:
    step, bottom = frame.step, frame.foot + AXIS + MEMORY
    scale = (MEMORY - 14) / frame.most
    for amount in (0.0, frame.most):
        y = bottom - amount * scale
        yield Line("rule", 1.0, 1.0, [(LEFT, y), (LEFT + frame.plot, y)])
        yield Words(LEFT - 8, y + 4, human_bytes(amount) if step.held else f"{amount:.3g}", "muted", 11, "end")
    fullest = step.peaks.index(max(step.peaks))
    ranks = [rank for rank in range(len(step.lists)) if rank != fullest]
    for rank in [*ranks, fullest]:
        points = [(x, bottom - amount * scale) for x, amount in _columns(frame, step.memory[rank])]
        yield Line(*(("ink", LINE, 1.0) if rank == fullest else ("muted", 0.9, 0.55)), points)
    what = "memory of each rank" if step.held else "micro-batches whose activations each rank holds"
    yield Words(LEFT, frame.foot + AXIS + 6, f"{what}; thick line: rank {fullest}, the fullest", "muted", 11)


def _columns(frame: _Frame, points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """A line of steps through the most that is held within each few pixels: of narrow actions, not each is shown."""
    wide = 1 if frame.plot * _shortest([frame.step]) / frame.seconds >= 6 else 12
    most: dict[int, float] = {}
    now, column = points[0][1], 0
    for seconds, amount in points:
        reached = int((frame.x(seconds) - LEFT) / wide)
        most.update(dict.fromkeys(range(column + 1, reached), now))
        most[reached] = max(most.get(reached, now), amount)
        column, now = reached, amount
    level: float | None = None
    for column, amount in sorted(most.items()):
        if amount != level:
            if level is not None:
                yield LEFT + column * wide, level
            yield LEFT + column * wide, amount
            level = amount
    yield frame.x(points[-1][0]), level or 0.0
