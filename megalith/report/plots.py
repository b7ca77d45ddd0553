"""The page's figures, from the facts in `expedition.json`; None if there is nothing to draw."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from megalith.report import axes as marks
from megalith.report.formats import count, data, fixed, is_share, number, pair, percent, visible, words
from megalith.report.svg import ACCENT, FAINT, INK, MUTED, NARROW, canvas, inline, panel, responsive

Facts = Mapping[str, Any]
Curve = tuple[list[float], list[float]]
_ROW = 26.0  # CSS pixels


def funnel(curation: Facts) -> Markup | None:
    """Draw documents and bytes of text after each curation step, and how much the step dropped."""
    steps = [step for step in curation.get("steps") or [] if number(step.get("documents_in")) is not None]
    if not steps:
        return None
    names = [words(step.get("name")) for step in steps]
    most = max(number(step.get("documents_in")) or 0 for step in steps)
    text = number(curation.get("bytes_in")) or 0  # what came out of extraction; more than that are pages, not text
    halves = (("documents", "documents left", count, most), ("bytes", "text left", data, text))
    height = _ROW * len(steps)

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        gutter, room = 116.0, 66.0
        plot = (width - gutter - room) if narrow else (width - gutter - 2 * room - 8) / 2
        figure = canvas(width, 2 * (height + 34) + 10 if narrow else height + 34)
        for index, (key, heading, form, reach) in enumerate(halves):
            left, top = (gutter, 26 + index * (height + 40)) if narrow else (gutter + index * (plot + room + 8), 26.0)
            axes = panel(figure, left, top, plot, height)
            before = [number(step.get(f"{key}_in")) or 0 for step in steps]
            after = [number(step.get(f"{key}_out")) or 0 for step in steps]
            for place, (old, new) in enumerate(zip(before, after, strict=True)):
                shown = [bytes_or_documents for bytes_or_documents in (old, new) if bytes_or_documents <= reach]
                axes.barh(
                    [place] * len(shown), shown, height=0.62, color=[FAINT, ACCENT][-len(shown) :] if shown else None
                )
                marks.beside(axes, form(new) if new <= reach else f"{form(new)} as read", (max([0, *shown]), place))
            marks.rows(axes, names if narrow or index == 0 else [""] * len(names), reach or 1)
            marks.title(axes, heading)
            axes.xaxis.set_visible(False)
        return figure

    kept = "; ".join(f"{name}: {count(step.get('documents_out'))}" for name, step in zip(names, steps, strict=True))
    return responsive("funnel", f"Bars: documents and bytes of text left after each step. Documents: {kept}.", draw)


def loss(history: Facts, train: Facts) -> Markup | None:
    """Draw training and validation loss over tokens, with the entropy of the token frequencies."""
    steps, validation = _curve(history, "steps", "loss"), _curve(history, "validation", "loss")
    if not steps[0] and not validation[0]:
        return None
    entropy = number(train.get("unigram_entropy"))
    curves = [(steps, "training", MUTED), (validation, "validation", ACCENT)]
    ends = [(curve[1][-1], name, colour) for curve, name, colour in curves if curve[0]]

    def draw(width: float) -> Figure:
        wide = width > NARROW
        height = 248.0 if wide else 188.0
        figure = canvas(width, height + 72)
        axes = panel(figure, 40, 26, width - 40 - (88 if wide else 14), height)
        axes.plot(*steps, color=MUTED, linewidth=1.1, alpha=0.75)
        axes.plot(*validation, color=ACCENT, linewidth=2, marker="o", markersize=4.5)
        if entropy is not None:
            axes.axhline(entropy, color=INK, linewidth=1, dashes=(4, 3))
            told = f"unigram entropy {fixed(entropy, 2)}"
            axes.annotate(
                told, (0.99, entropy), (0, -5), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", va="top", size=marks.SMALL,
            )  # fmt: skip
        marks.title(axes, "nats per token")
        marks.over_tokens(axes, steps[0] + validation[0])
        if wide:
            marks.name_ends(axes, ends, max(steps[0] + validation[0]), height)
        else:
            for place, (_, name, colour) in enumerate(ends):
                corner = (0, -12.0 - 15 * place)
                axes.annotate(
                    name,
                    (0.99, 1),
                    corner,
                    xycoords="axes fraction",
                    textcoords="offset points",
                    ha="right",
                    color=colour,
                )
        return figure

    told = f"Training and validation loss over tokens, down to {fixed((validation[1] or steps[1])[-1])} nats per token"
    return responsive("loss", f"{told}; the unigram entropy is {fixed(entropy)}.", draw)


def multiples(history: Facts) -> list[Markup]:
    """Draw small figures of learning rate and gradient norm."""
    made = []
    for key in ("learning_rate", "gradient_norm"):
        curve = _curve(history, "steps", key)
        if curve[0]:
            told = (
                f"{words(key)} over tokens, from {curve[1][0]:.3g} to {curve[1][-1]:.3g}, at most {max(curve[1]):.3g}."
            )
            made.append(inline(key, told, partial(_multiple, curve, words(key))))
    return made


def tasks(evaluation: Facts) -> Markup | None:
    """Draw accuracies with their 95 % intervals; an upright bar marks chance."""
    scored = [task for task in evaluation.get("tasks") or [] if is_share(task.get("metric")) and _has(task, "score")]
    if not scored:
        return None
    labels = [f"{words(task.get('name'))}{_variant(task)}, {task.get('shots', 0)}-shot" for task in scored]
    furthest = max(max(task["score"], number(task.get("chance")) or 0, *_interval(task)) for task in scored)
    reach = min(1.0, max(0.1, 1.1 * furthest))

    def draw(width: float) -> Figure:
        narrow = width <= NARROW
        lines = [label.replace(", ", "\n", 1) if narrow else label for label in labels]
        lines = ["\n".join(marks.shortened(part, width) for part in line.split("\n")) for line in lines]
        height = (_ROW + 10 * narrow) * len(scored)
        gutter = 10 + 6.6 * max(len(line) for label in lines for line in label.split("\n"))
        figure = canvas(width, height + 34)
        axes = panel(figure, gutter, 4, width - gutter - 62, height)
        for place, task in enumerate(scored):
            if (chance := number(task.get("chance"))) is not None:
                axes.vlines(chance, place - 0.36, place + 0.36, color=INK, linewidth=1.6)
            marks.dot(axes, task, "score", place)
            marks.beside(axes, percent(task["score"]), (1, place), ("axes fraction", "data"))
        marks.rows(axes, lines, reach)
        marks.in_percent(axes, 4 if narrow else 6)
        return figure

    told = "; ".join(f"{label}: {percent(task['score'])}" for label, task in zip(labels, scored, strict=True))
    return responsive("tasks", f"Accuracy with 95 % intervals; a bar marks chance. {told}.", draw)


def hans(facts: Facts) -> Markup | None:
    """Draw accuracy by heuristic: full dots where the hypothesis follows, hollow ones where it does not."""
    cells = [cell for cell in facts.get("cells") or [] if _has(cell, "accuracy")]
    if not cells:
        return None
    heuristics = list(dict.fromkeys(str(cell.get("heuristic")) for cell in cells))
    height = 1.5 * _ROW * len(heuristics)

    def draw(width: float) -> Figure:
        figure = canvas(width, height + 30)
        axes = panel(figure, 112, 4, width - 112 - 24, height)
        axes.axvline(0.5, color=INK, linewidth=1.2)
        for cell in cells:
            follows = not str(cell.get("label")).lower().startswith("non")
            place = heuristics.index(str(cell.get("heuristic"))) + (-0.16 if follows else 0.16)
            marks.dot(axes, cell, "accuracy", place, hollow=not follows)
        marks.rows(axes, [words(heuristic) for heuristic in heuristics], 1.0)
        marks.in_percent(axes, 4 if width <= NARROW else 6)
        return figure

    named = ((f"{words(cell.get('heuristic'))}, {cell.get('label')}", percent(cell["accuracy"])) for cell in cells)
    told = "; ".join(f"{name}: {accuracy}" for name, accuracy in named)
    return responsive("hans", f"HANS accuracy by heuristic and right answer, with 95 % intervals. {told}.", draw)


def association(facts: Facts) -> Markup | None:
    """Draw the log odds ratio of every occupation in order, with the mean and its interval."""
    known = [row for row in facts.get("rows") or [] if _has(row, "log_odds_ratio")]
    if not known:
        return None
    ranked = sorted((float(row["log_odds_ratio"]), str(visible(row.get("occupation")))) for row in known)
    values = [value for value, _ in ranked]
    mean, bounds = number(facts.get("mean_log_odds_ratio")), pair(facts.get("log_odds_ratio_interval"))
    reach = 1.08 * max(map(abs, values)) or 1.0

    def draw(width: float) -> Figure:
        figure = canvas(width, 250)
        axes = panel(figure, 14, 8, width - 28, 194)
        axes.axvline(0, color=INK, linewidth=1)
        if bounds:
            axes.axvspan(*bounds, color=FAINT, linewidth=0)
        if mean is not None:
            axes.axvline(mean, color=ACCENT, linewidth=1.5, dashes=(4, 3))
        axes.scatter(values, range(len(values)), s=16, color=ACCENT, linewidths=0)
        for place, side, above in ((0, "left", -5), (len(ranked) - 1, "right", 5)):
            axes.annotate(
                ranked[place][1], (values[place], place), (0, above), textcoords="offset points", ha=side,
                va="top" if above < 0 else "bottom", size=marks.SMALL, color=INK,
            )  # fmt: skip
        axes.set_xlim(-reach, reach)
        axes.set_ylim(-0.12 * len(values) - 1, 1.12 * len(values))
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5 if width <= NARROW else 9, symmetric=True))
        axes.set_xlabel("log odds ratio in nats, one dot an occupation")
        return figure

    return responsive(
        "association", f"Log odds ratios of {len(ranked)} occupations; their mean is {fixed(mean)} nats.", draw
    )


def _multiple(curve: Curve, heading: str) -> Figure:
    figure = canvas(344, 190)
    axes = panel(figure, 52, 26, 278, 118)
    axes.plot(*curve, color=ACCENT, linewidth=1.3)
    marks.title(axes, heading)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    marks.over_tokens(axes, curve[0])
    return figure


def _curve(history: Facts, part: str, key: str) -> Curve:
    points = [(number(row.get("tokens")), number(row.get(key))) for row in history.get(part) or []]
    known = [(tokens, value) for tokens, value in points if tokens is not None and value is not None]
    return [tokens for tokens, _ in known], [value for _, value in known]


def _variant(task: Facts) -> str:
    """Name the kind of an accuracy, where a task has several."""
    metric = str(task.get("metric"))
    return f", {words(metric.removeprefix('accuracy_'))}" if metric.startswith("accuracy_") else ""


def _interval(row: Facts) -> tuple[float, ...]:
    return pair(row.get("interval")) or ()


def _has(row: Facts, key: str) -> bool:
    return number(row.get(key)) is not None
