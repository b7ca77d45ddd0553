"""The figures of a search for weights: the weights, predicted against measured losses, a loss over each weight."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from megalith.report import axes as marks
from megalith.report.svg import ACCENT, FAINT, INK, MUTED, NARROW, PAPER, canvas, panel, responsive

Facts = Mapping[str, Any]
_ROW = 40.0  # CSS pixels
_LEFT, _BELOW = 52.0, 48.0


def weights(found: Facts) -> Markup | None:
    """Draw each data set's weight: found, with its range over folds, beside the natural one and the recipe's."""
    best = found["found"]
    if best is None:
        return None
    names = [one["name"] for one in found["datasets"]]
    reach = max(*best["weights"], *(end for _, end in best["ranges"]), *(one["natural"] for one in found["datasets"]),
                *(one["recipe"] or 0 for one in found["datasets"]))  # fmt: skip

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        left = min(0.42 * width, 24 + 7.0 * max(len(marks.shortened(name, width)) for name in names))
        figure = canvas(width, _ROW * len(names) + 74)
        axes = panel(figure, left, 30, width - left - 22, _ROW * len(names))
        marks.rows(axes, [marks.shortened(name, width) for name in names], 1.06 * reach)
        for place, one in enumerate(found["datasets"]):
            axes.hlines(place, *best["ranges"][place], color=ACCENT, linewidth=2)
            axes.plot(one["natural"], place, "|", color=INK, markersize=15, markeredgewidth=2, clip_on=False)
            if one["recipe"] is not None:
                axes.plot(one["recipe"], place, "D", color=PAPER, markersize=7, markeredgecolor=INK, clip_on=False)
            axes.plot(best["weights"][place], place, "o", color=ACCENT, markersize=8, clip_on=False)
        marks.in_percent(axes, 4 if narrow else 7)
        marks.title(axes, "● found   | natural" + ("   ◇ recipe" if found["datasets"][0]["recipe"] is not None else ""))
        return figure

    told = "; ".join(
        f"{name} {weight:.1%} (natural {one['natural']:.1%})"
        for name, weight, one in zip(names, best["weights"], found["datasets"], strict=True)
    )
    return responsive("weights", f"Weight of each data set. {told}.", draw)


def ranking(found: Facts) -> Markup:
    """Draw the losses of the proxy runs over what was foretold for them while they were held out."""
    regression = found["regression"]
    predicted, actual = np.array(regression["predicted"]), np.array(regression["actual"])
    low, high = min(predicted.min(), actual.min()), max(predicted.max(), actual.max())
    edge = 0.04 * (high - low or 1.0)

    def draw(width: float) -> Figure:
        side = min(width - _LEFT - 24, 380.0)
        figure = canvas(width, side + 30 + _BELOW)
        axes = panel(figure, _LEFT, 30, side, side)
        axes.plot([low - edge, high + edge], [low - edge, high + edge], color=MUTED, linewidth=1, dashes=(4, 3))
        axes.plot(predicted, actual, "o", color=ACCENT, markersize=6, markeredgecolor=PAPER, markeredgewidth=0.8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        axes.set_xlim(low - edge, high + edge)
        axes.set_ylim(low - edge, high + edge)
        axes.grid(True, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("predicted, held out")
        marks.title(axes, "measured loss, nats per token")
        return figure

    return responsive("ranking", f"Measured over predicted loss of {len(actual)} proxy runs that were held out; "
                      f"Spearman's correlation {regression['spearman']:.2f}.", draw)  # fmt: skip


def shares(found: Facts) -> Markup:
    """Draw the target's loss of each proxy run over the weight of each data set."""
    names = [one["name"] for one in found["datasets"]]
    drawn = [row for row in found["rows"] if row["arm"] == "drawn"]
    target = [one["target"] for one in found["datasets"]]
    losses = [sum(part * float(row[f"loss:{name}"]) for part, name in zip(target, names, strict=True)) for row in drawn]

    def draw(width: float) -> Figure:
        across = 2 if width <= NARROW else min(4, len(names))
        down = -(-len(names) // across)
        wide, tall, gap = (width - _LEFT - 14 * across) / across, 130.0, 58.0
        figure = canvas(width, 26 + down * (tall + gap))
        for place, name in enumerate(names):
            column, row = place % across, place // across
            axes = panel(figure, _LEFT + column * (wide + 14), 26 + row * (tall + gap), wide, tall)
            axes.plot([float(one[f"weight:{name}"]) for one in drawn], losses, "o", color=ACCENT, markersize=3.5)
            if found["found"] is not None:
                axes.axvline(found["found"]["weights"][place], color=INK, linewidth=1.2)
            axes.axvspan(found["datasets"][place]["cap"], 1.0, color=FAINT, linewidth=0)
            axes.set_xlim(-0.03, 1.03)
            axes.grid(True, axis="y")
            axes.spines["left"].set_visible(False)
            axes.set_xticks([0, 0.5, 1.0])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            if column:
                axes.set_yticklabels([])
            marks.title(axes, f"{marks.shortened(name, 1.7 * wide)}, %")
        return figure

    return responsive("shares", "The loss of each proxy run over the weight of each data set in its mixture.", draw)
