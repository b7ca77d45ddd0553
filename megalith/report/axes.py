"""Marks shared by the figures: a dot with its interval, labelled rows, an axis in percent, an axis in tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from megalith.console import human_count
from megalith.report.formats import pair
from megalith.report.svg import ACCENT, INK, MUTED, PAPER

SMALL = 11.5  # CSS pixels


def title(axes: Axes, text: str) -> None:
    """Write a title above the left end of the axes."""
    axes.set_title(text, loc="left", size=12, color=MUTED, pad=8)


def beside(axes: Axes, text: str, place: tuple[float, float], across: Any = "data") -> None:
    """Write a figure to the right of a point; `across` names its coordinates (matplotlib's xycoords)."""
    axes.annotate(text, place, (8, 0), xycoords=across, textcoords="offset points", va="center", size=SMALL)


def dot(axes: Axes, row: Mapping[str, Any], key: str, place: float, *, hollow: bool = False) -> None:
    """Draw a value and its 95 % interval."""
    if bounds := pair(row.get("interval")):
        axes.hlines(place, *bounds, color=ACCENT, linewidth=2)
    fill = PAPER if hollow else ACCENT
    axes.plot(
        row[key], place, "o", color=fill, markersize=7, markeredgecolor=ACCENT, markeredgewidth=1.6, clip_on=False
    )


def shortened(label: str, width: float) -> str:
    """Shorten a label so that more than half of the figure's width is left to the plot."""
    most = int(0.45 * width / 6.6)
    return label if len(label) <= most else f"{label[: most - 1]}…"


def rows(axes: Axes, labels: Sequence[str], reach: float) -> None:
    """Turn the vertical axis into a list that is read from the top."""
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0, reach)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", pad=6)


def in_percent(axes: Axes, ticks: int) -> None:
    """Label the horizontal axis in percent."""
    axes.grid(True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))


def over_tokens(axes: Axes, tokens: Sequence[float]) -> None:
    """Label the horizontal axis in training tokens."""
    axes.set_xlim(0, max([*tokens, 1]))
    axes.grid(True, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value) if value else "0"))
    axes.set_xlabel("training tokens")


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], at: float, height: float) -> None:
    """Name each curve (last value, name, colour) beside its last point, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    previous = None
    for value, name, colour in sorted(ends):
        pixels = (value - low) / (high - low) * height
        moved = pixels if previous is None else max(pixels, previous + 15)
        axes.annotate(name, (at, value), (10, moved - pixels), textcoords="offset points", va="center", color=colour)
        previous = moved
