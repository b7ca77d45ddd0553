"""The page of a comparison: two evaluations side by side, their differences with what counts as none, and the flips."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.report.formats import counted, fixed, percent, significant, span, words
from megalith.report.pages import render_page, write_page
from megalith.report.strips import strip
from megalith.report.views import Headline

Row = Mapping[str, Any]

FOLD = 10
"""Perplexities this many times as large are told as a factor."""
MOST_FLIPS = 200
"""Items listed of each row and direction."""


def write_comparison(comparison: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a comparison (`evaluation.compare`, as a dictionary) to a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(path, render_comparison(comparison))
    return path


def render_comparison(comparison: Mapping[str, Any]) -> str:
    """Render the page: a pure function of the comparison."""
    rows = comparison["rows"]
    units = {row["unit"] for row in rows}
    reaches = {unit: _reach(unit, [row for row in rows if row["unit"] == unit]) for unit in units}
    groups = [
        (title, _scale(unit, reaches[unit]), [_shown(row, reaches[unit]) for row in rows if row["unit"] == unit])
        for unit, title in _UNITS.items()
        if unit in reaches
    ]
    return render_page(
        "comparison.html",
        name="A and B, item by item",
        version="",
        headlines=_headlines(rows),
        comparison=comparison,
        groups=groups,
        sides=[("A", comparison["a"]), ("B", comparison["b"])],
        both=[_side_by_side(row) for row in rows if row["a"] is not None],
        noise=[row for row in rows if row["noise"] and (row["noise"]["shots"] or row["noise"]["seeds"])],
        flips=[_flips(row) for row in rows if row.get("flips")],
        most_flips=MOST_FLIPS,
    )


_UNITS = {
    "share": "Shares of right answers, in points",
    "perplexity": "Perplexities, in percent",
    "bits": "Bits per byte",
    "nats": "Margins, in nats",
}


def _headlines(rows: Sequence[Row]) -> list[Headline]:
    verdicts = [row["verdict"] for row in rows]
    better = {side: sum(verdict.startswith(f"{side} is better") for verdict in verdicts) for side in "AB"}
    same = sum(verdict.startswith("the same") for verdict in verdicts)
    return [
        Headline("Compared", counted(len(rows), "row"), f"{len({row['name'] for row in rows})} tasks, every metric"),
        Headline("A is better", str(better["A"]), "adjusted p at most 0.05"),
        Headline("B is better", str(better["B"]), "adjusted p at most 0.05"),
        Headline("The same", str(same), "within the margin, tested"),
        Headline("Cannot tell", str(verdicts.count("cannot tell")), "too few items, or too alike"),
    ]


def _place(unit: str, step: float) -> float:
    """The place of a difference on its scale, which is that of logarithms for perplexities."""
    return math.log1p(step) if unit == "perplexity" else step


def _reach(unit: str, rows: Sequence[Row]) -> tuple[float, float]:
    """The same reach to both sides of zero; intervals longer than three times the median are cut, with an arrow."""
    ends = sorted(max(abs(_place(unit, end)) for end in row["interval"]) for row in rows if row["interval"])
    margins = [2 * _place(unit, row["margin"]) for row in rows if row["margin"] is not None]
    if not ends:
        return (-1.0, 1.0)
    most = 1.05 * max(min(ends[-1], 3 * ends[len(ends) // 2]), *margins, 1e-9)
    return (-most, most)


def _scale(unit: str, reach: tuple[float, float]) -> str:
    ends = [math.expm1(end) if unit == "perplexity" else end for end in reach]
    band = "" if unit == "nats" else "; the band is the margin"
    return f"B − A from {_difference(unit, ends[0])} to {_difference(unit, ends[1])}{band}"


def _shown(row: Row, reach: tuple[float, float]) -> dict[str, Any]:
    unit = row["unit"]
    interval = None if row["interval"] is None else (row["interval"][0], row["interval"][1])
    places = None if interval is None else (_place(unit, interval[0]), _place(unit, interval[1]))
    dot, margin = (None if row[key] is None else _place(unit, row[key]) for key in ("difference", "margin"))
    drawing = strip(dot, places, reach, reference=0.0, margin=margin)
    told = "—" if interval is None else f"{_difference(unit, interval[0])} – {_difference(unit, interval[1])}"
    return {
        **row,
        "strip": drawing,
        "told": "—" if row["difference"] is None else _difference(unit, row["difference"]),
        "told_interval": told,
        "visible": "—" if row["smallest_visible"] is None else _difference(unit, row["smallest_visible"]).lstrip("+"),
        "p_told": _p(row["p_adjusted"]),
    }


def _side_by_side(row: Row) -> dict[str, Any]:
    """Both scores of a row on one scale."""
    share = row["unit"] == "share"
    ends = [end for key in ("a_interval", "b_interval") for end in row[key] or ()]
    known = [value for value in (*ends, row["a"], row["b"]) if math.isfinite(value)]
    reach = (0.0, 1.0) if share else (min([*known, 0.0]), max(known))
    form = percent if share else significant
    drawn = {
        side: (
            strip(row[side], (row[f"{side}_interval"][0], row[f"{side}_interval"][1]), reach)
            if row[f"{side}_interval"]
            else strip(row[side], None, reach),
            form(row[side]),
            span(row[f"{side}_interval"], form),
        )
        for side in ("a", "b")
    }
    return {**row, "sides": [drawn["a"], drawn["b"]]}


def _flips(row: Row) -> dict[str, Any]:
    ways = [
        (way, len(items), items[:MOST_FLIPS])
        for way, items in (
            ("right with A, wrong with B", row["flips"]["right_to_wrong"]),
            ("wrong with A, right with B", row["flips"]["wrong_to_right"]),
        )
    ]
    return {"title": f"{words(row['name'])}, {row['shots']}-shot, {words(row['metric'])}", "ways": ways}


def _p(value: float | None) -> str:
    return "< 0.0001" if value is not None and value < 1e-4 else significant(value, 2)


def _difference(unit: str, step: float) -> str:
    """A signed difference in the unit of its row."""
    sign = "+" if step > 0 else ""
    match unit:
        case "share":
            return f"{sign}{fixed(100 * step, 1)}"
        case "perplexity":
            return f"{sign}{fixed(100 * step, 2)} %" if step < FOLD - 1 else f"× {significant(1 + step)}"
    return f"{sign}{fixed(step, 4)}"
