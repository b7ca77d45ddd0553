"""Histograms of the card: small SVGs of bars, drawn without matplotlib since a page has forty of them.

Heights are logarithms of the counts, so that the tail, where the rules cut, is visible beside the bulk.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from megalith.report.formats import count, significant

WIDTH, HEIGHT = 220.0, 64.0  # CSS pixels
_FEWEST_BARS = 5


@dataclass(frozen=True)
class Histogram:
    """A drawing and its caption."""

    drawing: Markup
    low: str
    high: str
    told: str


def histogram(held: Mapping[str, Any], limits: Sequence[float] = ()) -> Histogram:
    """Draw the counts between edges, from the first to the last bar that is not empty, with the limits of the rules."""
    edges, counts = held["edges"], held["counts"]
    filled = [place for place, many in enumerate(counts) if many]
    if not filled:
        return Histogram(Markup(""), "", "", "not measured")
    first, last = filled[0], filled[-1] + 1
    for limit in limits:  # shown even where no document comes near
        below, upto = sum(edge < limit for edge in edges), sum(edge <= limit for edge in edges)
        first, last = min(first, max(upto - 1, 0)), max(last, min(below, len(counts)))
    last = max(last, min(first + _FEWEST_BARS, len(counts)))
    shown = counts[first:last]
    bar, most = WIDTH / len(shown), math.log1p(max(shown))
    path = []
    for place, many in enumerate(shown):
        if many:
            height = max(1.0, math.log1p(many) / most * (HEIGHT - 4))
            path.append(f"M{place * bar:.2f} {HEIGHT:g}v{-height:.2f}h{max(bar - 0.8, 0.4):.2f}v{height:.2f}z")
    marks = "".join(
        f'<line class="limit" x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="{HEIGHT:g}"/>'
        for x in (_across(limit, edges, first, bar) for limit in limits)
    )
    told = f"{count(sum(counts))} documents, median {_median(edges, counts)}"
    if limits:
        told += f"; limit {' and '.join(f'{limit:g}' for limit in limits)}"
    drawing = Markup(
        f'<svg class="bars" role="img" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" '
        f'aria-label="{told}"><path d="{"".join(path)}"/>{marks}</svg>'
    )
    return Histogram(drawing, _edge(edges[first]), _edge(edges[last]), told)


def _median(edges: Sequence[float], counts: Sequence[int]) -> str:
    half, seen = sum(counts) / 2, 0
    for place, many in enumerate(counts):
        seen += many
        if seen >= half:
            return f"{_edge(edges[place])} – {_edge(edges[place + 1])}"
    return ""


def _across(limit: float, edges: Sequence[float], first: int, bar: float) -> float:
    """Return a limit's horizontal position among bars of equal width."""
    place = max(0, min(sum(edge <= limit for edge in edges) - 1, len(edges) - 2))
    inside = (limit - edges[place]) / (edges[place + 1] - edges[place])
    return (place - first + min(1.0, inside)) * bar


def _edge(value: float) -> str:
    return count(value) if value == int(value) else significant(value, 2)
