"""Waterfalls as a picture (.svg) and as a page (.html) that fits a telephone, in the colours of the timeline."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from megalith.artifacts import Workspace
from megalith.console import human_seconds
from megalith.errors import InputError
from megalith.planning.timeline.colours import name
from megalith.planning.timeline.scene import Boxes, Line, Scene, Words
from megalith.planning.timeline.step import Kind
from megalith.planning.timeline.svg import svg
from megalith.planning.timeline.templates import render
from megalith.planning.waterfall.explained import label
from megalith.planning.waterfall.parts import GROUPS, Waterfall

ROLES: dict[str, str] = {
    "ideal": Kind.FORWARD,
    "kernels": Kind.INPUT_GRADIENT,
    "recomputation": Kind.BACKWARD,
    "communication": Kind.REDUCTION,
    "waiting": "muted",
    "optimizer": Kind.OPTIMIZER,
}
"""Colours of the groups, by their role in the timeline."""
WORDS = {"ideal": "ideal FLOPs", "kernels": "kernels below the peak"}
_LEFT, _PLOT, _RIGHT, _ROW, _HEADING = 230.0, 560.0, 130.0, 22.0, 62.0


class Bar(NamedTuple):
    """One part: where it begins and ends, as shares of the widest waterfall."""

    name: str
    group: str
    begin: float
    end: float
    seconds: float
    share: float
    why: str


def bars(fall: Waterfall, widest: float) -> list[Bar]:
    """The parts one after another; `widest` is the seconds that fill the picture."""
    found, at = [], 0.0
    for part in fall.parts:
        begin, end = sorted((at, at + part.seconds))
        found.append(
            Bar(part.name, part.group, begin / widest, end / widest, part.seconds, part.seconds / fall.step.seconds,
                part.why)
        )  # fmt: skip
        at += part.seconds
    return found


def widest_of(falls: Sequence[Waterfall]) -> float:
    """The longest step, or the highest that a waterfall stands on its way."""
    most = 0.0
    for fall in falls:
        at = 0.0
        for part in fall.parts:
            at += part.seconds
            most = max(most, at)
    return most


def headline(fall: Waterfall) -> str:
    """A step's figures in a line."""
    low, high = (human_seconds(end) for end in fall.step.interval)
    return (
        f"step {human_seconds(fall.step.seconds)} ({low} to {high}), {fall.step.tflops_per_gpu:.0f} TFLOP/s per GPU, "
        f"{fall.step.mfu:.0%} of the peak"
    )


def signed(seconds: float) -> str:
    """A duration that may be a gain."""
    return human_seconds(seconds) if seconds >= 0 else f"−{human_seconds(-seconds)}"


def scene(title: str, falls: Sequence[Waterfall]) -> Scene:
    """The picture: a waterfall under the other, on one axis of time."""
    widest = widest_of(falls)
    drawn = Scene(_LEFT + _PLOT + _RIGHT, 0.0, title)
    items: list[Boxes | Words | Line] = [Words(16, 28, title, size=16, bold=True)]
    top = 44.0
    for fall in falls:
        items += [
            Words(16, top + 20, label(fall), size=13, bold=True),
            Words(16, top + 40, headline(fall), role="muted", size=12),
        ]
        y = top + _HEADING
        for bar in bars(fall, widest):
            x, width = _LEFT + _PLOT * bar.begin, max(1.0, _PLOT * (bar.end - bar.begin))
            items += [
                Words(_LEFT - 10, y + 14, bar.name, anchor="end"),
                Boxes(ROLES[bar.group], 1.0, [(x, y + 3, width, _ROW - 6)]),
                Words(x + width + 6, y + 14, f"{signed(bar.seconds)}  {bar.share:.1%}", role="muted", size=11),
            ]
            y += _ROW
        x = _LEFT + _PLOT * fall.step.seconds / widest
        items.append(Line("rule", 1.0, 1.0, [(x, top + _HEADING - 4), (x, y + 2)]))
        top = y + 18
    return Scene(drawn.width, top + 8, title, items)


def page(title: str, falls: Sequence[Waterfall]) -> str:
    """The page, without a script."""
    widest = widest_of(falls)
    return render(
        "waterfall",
        title=title,
        layouts=[
            {
                "label": label(fall),
                "headline": headline(fall),
                "bars": [
                    {
                        "name": bar.name,
                        "css": name(ROLES[bar.group]),
                        "left": f"{100 * bar.begin:.2f}",
                        "width": f"{100 * (bar.end - bar.begin):.2f}",
                        "time": signed(bar.seconds),
                        "share": f"{bar.share:.1%}",
                        "why": bar.why,
                    }
                    for bar in bars(fall, widest)
                ],
            }
            for fall in falls
        ],
        legend=[
            (WORDS.get(group, group), name(ROLES[group]))
            for group in GROUPS
            if any(part.group == group for fall in falls for part in fall.parts)
        ],
    )


def write_waterfalls(output: Path, title: str, falls: Sequence[Waterfall]) -> Path:
    """Draw into `output`, a .svg or .html file. Raises InputError for another suffix."""
    if output.suffix not in _WRITERS or output.is_dir():
        raise InputError(
            f"a waterfall is not drawn as {output.suffix or 'a directory'}.",
            where=str(output),
            mend=f"Use a file that ends in {' or '.join(_WRITERS)}.",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with Workspace(output.parent).file(output.name) as path:
        path.write_text(_WRITERS[output.suffix](title, falls), encoding="utf-8")
    return output


_WRITERS: dict[str, Callable[[str, Sequence[Waterfall]], str]] = {
    ".svg": lambda title, falls: svg(scene(title, falls)),
    ".html": page,
}
