"""The figures of scaling laws, from the figures of `scaling fit`; None if there is nothing to draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from megalith.console import human_count
from megalith.report import axes as marks
from megalith.report.formats import power, significant
from megalith.report.svg import ACCENT, FAINT, INK, MUTED, NARROW, canvas, panel, responsive

Facts = Mapping[str, Any]
_LEFT, _BELOW = 52.0, 48.0  # CSS pixels for labels


def isoflops(fit: Facts) -> Markup | None:
    """Draw the losses of each budget over N, the parabolas near their minima, and the minima."""
    budgets = fit["approach_2"].get("budgets") or []
    if not budgets:
        return None
    points = np.array(fit["fitted_runs"], dtype=float)
    highest = max(budget["loss"] for budget in budgets)

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        figure, axes = _axes(width, 300.0 if narrow else 340.0, right=20.0 if narrow else 96.0)
        _log_counts(axes, "parameters")
        for budget in budgets:
            own = points[np.abs(np.log(points[:, 2] / budget["flops"])) < 0.14]
            axes.plot(own[:, 0], own[:, 3], "o", color=MUTED, markersize=4, linewidth=0)
            c2, c1, c0 = budget["parabola"]
            near = np.sort(own[own[:, 3] < 1.08 * budget["loss"], 0])
            if len(near) > 1:
                x = np.geomspace(near[0], near[-1], 60)
                across = np.log(x) - budget["origin"]
                axes.plot(x, np.exp(c2 * across**2 + c1 * across + c0), color=ACCENT, linewidth=1.4)
            axes.hlines(budget["loss"], *budget["interval"], color=INK, linewidth=2)
            axes.plot(budget["parameters"], budget["loss"], "o", color=INK, markersize=6)
        axes.set_ylim(0.985 * min(budget["loss"] for budget in budgets), 1.12 * highest)
        if not narrow:
            ends = [(budget["loss"], power(budget["flops"], 2), MUTED) for budget in budgets]
            _name_ends(axes, ends, axes.get_xlim()[1])
        marks.title(axes, "loss" if narrow else "loss; FLOPs at the right")
        return figure

    told = "; ".join(f"{power(b['flops'], 2)} FLOPs: {human_count(b['parameters'])} parameters" for b in budgets)
    return responsive("isoflops", f"Loss over parameters at each budget, with its minimum. {told}.", draw)


def envelope(fit: Facts) -> Markup | None:
    """Draw the loss of each size over FLOPs, and their lower envelope."""
    found = fit["approach_1"].get("envelope") or []
    if not found:
        return None
    points = np.array(fit["fitted_runs"], dtype=float)
    line = np.array(found, dtype=float)

    def draw(width: float) -> Figure:
        figure, axes = _axes(width, 280.0)
        for size in np.unique(points[:, 0]):
            own = points[points[:, 0] == size]
            own = own[np.argsort(own[:, 2])]
            axes.plot(own[:, 2], own[:, 3], color=MUTED, linewidth=0.9, marker="o", markersize=3, alpha=0.8)
        axes.plot(line[:, 0], line[:, 2], color=ACCENT, linewidth=2.2)
        axes.set_ylim(0.985 * line[:, 2].min(), 1.2 * line[:, 2].max())
        marks.title(axes, "loss")
        _log_powers(axes, "training FLOPs", width)
        return figure

    return responsive("envelope", "Loss of each size over training FLOPs, and the lower envelope of all sizes.", draw)


def optima(fit: Facts, which: str) -> Markup | None:
    """Draw the optimal parameters or tokens over FLOPs: approach 3 with its band, approaches 1 and 2, Kaplan's law."""
    path = fit.get("path") or []
    if not path:
        return None
    flops = np.array([row["flops"] for row in path])
    last = float(np.array(fit["fitted_runs"], dtype=float)[:, 2].max())

    def per(sizes: Any) -> Any:
        sizes = np.array(sizes, dtype=float)
        return sizes if which == "parameters" else flops / 6 / sizes

    lines = [(name, per([row[key] for row in path])) for name, key in _LAWS if path[0].get(key) is not None]
    known = all(row["interval"] for row in path)
    low, high = (per([row["interval"][end] for row in path]) for end in (0, 1)) if known else (lines[0][1], lines[0][1])

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        figure, axes = _axes(width, 280.0, right=20.0 if narrow else 108.0)
        axes.fill_between(flops, np.minimum(low, high), np.maximum(low, high), color=FAINT, linewidth=0)
        for (name, values), style in zip(lines, _STYLES, strict=False):
            axes.plot(flops, values, label=name, **style)
        axes.axvline(last, color=MUTED, linewidth=1, dashes=(2, 3))
        axes.set_yscale("log")
        _log_powers(axes, "training FLOPs; the runs end at the dotted line" if not narrow else "training FLOPs", width)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        marks.title(axes, f"optimal {which}")
        if narrow:
            axes.legend(frameon=False, fontsize=marks.SMALL, loc="upper left")
        else:
            ends = [
                (float(values[-1]), name, style["color"]) for (name, values), style in zip(lines, _STYLES, strict=False)
            ]
            _name_ends(axes, ends, float(flops[-1]))
        return figure

    told = f"Optimal {which} over training FLOPs by each law, with the 95 % band of approach 3"
    return responsive(f"optimal-{which}", f"{told}.", draw)


def contours(fit: Facts) -> Markup | None:
    """Draw lines of equal loss of approach 3 over FLOPs and N, the runs, and the path of the optima."""
    points = np.array(fit["fitted_runs"], dtype=float)
    path = fit.get("path") or []
    if not path:
        return None
    flops = np.geomspace(points[:, 2].min() / 1.5, points[:, 2].max() * 1.5, 80)
    sizes = np.geomspace(points[:, 0].min() / 1.5, points[:, 0].max() * 1.5, 80)
    c, n = np.meshgrid(flops, sizes)
    losses = fit["E"] + fit["A"] / n ** fit["alpha"] + fit["B"] / (c / 6 / n) ** fit["beta"]
    low, high = np.quantile(points[:, 3], (0.0, 0.9))
    levels = np.linspace(low, high, 9)
    known = [row for row in path if flops[0] <= row["flops"] <= flops[-1]]

    def draw(width: float) -> Figure:
        figure, axes = _axes(width, 300.0)
        drawn = axes.contour(c, n, losses, levels=levels, colors=MUTED, linewidths=0.9)
        axes.clabel(drawn, fmt=lambda value: significant(value), fontsize=marks.SMALL, colors=MUTED)
        axes.plot(points[:, 2], points[:, 0], "o", color=FAINT, markeredgecolor=ACCENT, markersize=4)
        axes.plot([row["flops"] for row in known], [row["approach_3"] for row in known], color=ACCENT, linewidth=2)
        axes.set_yscale("log")
        _log_powers(axes, "training FLOPs", width)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        marks.title(axes, "parameters")
        return figure

    return responsive("contours", "Lines of equal loss by approach 3 over FLOPs and parameters, and the optima.", draw)


def repetition(fit: Facts) -> Markup | None:
    """Draw the losses of repeated text over tokens beside those of fresh text, and the law of both."""
    found = fit.get("repetition") or {}
    runs = np.array(found.get("runs") or [], dtype=float)
    if not len(runs):
        return None
    repeats = runs[:, 1] > 1.001 * runs[:, 2]
    runs = runs[np.isin(runs[:, 0], runs[repeats, 0])]  # sizes of which some run repeats
    repeats = runs[:, 1] > 1.001 * runs[:, 2]

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        figure, axes = _axes(width, 280.0, right=20.0 if narrow else 108.0)
        for size in np.unique(runs[:, 0]):
            for repeated, colour, name in ((False, MUTED, "fresh text"), (True, ACCENT, "repeated")):
                own = runs[(runs[:, 0] == size) & (repeats == repeated)]
                if not len(own):
                    continue
                axes.plot(own[:, 1], own[:, 3], "o", color=colour, markersize=4, linewidth=0)
                for unique in np.unique(own[:, 2]) if repeated else (None,):
                    line = own if unique is None else own[own[:, 2] == unique]
                    line = line[np.argsort(line[:, 1])]
                    axes.plot(line[:, 1], line[:, 4], color=colour, linewidth=1.6, label=name)
        _log_counts(axes, "training tokens")
        handles, names = axes.get_legend_handles_labels()
        known = dict(zip(names, handles, strict=True))
        axes.legend(known.values(), known.keys(), frameon=False, fontsize=marks.SMALL, loc="upper right")
        marks.title(axes, "loss")
        return figure

    told = f"Loss over training tokens, of fresh and of repeated text; R_D* {significant(found['R_D'])}"
    return responsive("repetition", f"{told}.", draw)


_LAWS = (
    ("approach 3", "approach_3"),
    ("approach 2", "approach_2"),
    ("approach 1", "approach_1"),
    ("Kaplan, fitted", "kaplan"),
    ("Kaplan, published", "kaplan_published"),
)
_STYLES: Sequence[dict[str, Any]] = (
    {"color": ACCENT, "linewidth": 2.2},
    {"color": INK, "linewidth": 1.4},
    {"color": INK, "linewidth": 1.2, "dashes": (5, 2)},
    {"color": MUTED, "linewidth": 1.4},
    {"color": MUTED, "linewidth": 1.2, "dashes": (2, 2)},
)


def _axes(width: float, height: float, right: float = 20.0) -> tuple[Figure, Axes]:
    figure = canvas(width, height + 26 + _BELOW)
    axes = panel(figure, _LEFT, 26, width - _LEFT - right, height)
    axes.spines["left"].set_visible(False)
    axes.grid(True, axis="y")
    return figure, axes


def _log_counts(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def _log_powers(axes: Axes, label: str, width: float) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, numticks=5 if width <= NARROW else 9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value, 1).replace("1 × ", "")))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], at: float) -> None:
    """Name each line (height, name, colour) at its right end, moved apart where names would overlap."""
    axes.get_xlim(), axes.get_ylim()  # which brings the limits up to date
    scale = axes.transData
    previous = None
    for value, name, colour in sorted(ends):
        wanted = float(scale.transform((at, value))[1])
        moved = wanted if previous is None else max(wanted, previous + 15)
        axes.annotate(name, (at, value), (8, moved - wanted), textcoords="offset points", va="center",
                      color=colour, size=marks.SMALL, annotation_clip=False)  # fmt: skip
        previous = moved
