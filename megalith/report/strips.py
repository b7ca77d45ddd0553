"""Small drawings as plain SVG: a value with its interval in one line of a table, and histograms.

They take their colours from the page. A table may have thousands of them, for which matplotlib is too slow.
"""

from collections.abc import Sequence

from markupsafe import Markup, escape

from megalith.report.formats import visible
from megalith.statistics.histogram import round_edges

_WIDTH, _HEIGHT, _EDGE = 150.0, 18.0, 6.0


def strip(
    value: float | None,
    interval: tuple[float, float] | None,
    reach: tuple[float, float],
    *,
    reference: float | None = None,
    margin: float | None = None,
) -> Markup:
    """Draw a dot and its interval between the ends of `reach`; an upright bar marks `reference` (chance, or zero).

    A band of `margin` to both sides of the reference marks differences that count as none. Ends beyond the reach are
    drawn as arrows.
    """
    if value is None:
        return Markup("")

    def place(number: float) -> float:
        share = (number - reach[0]) / ((reach[1] - reach[0]) or 1.0)
        return _EDGE + (_WIDTH - 2 * _EDGE) * min(1.0, max(0.0, share))

    middle = _HEIGHT / 2
    parts = [f'<path class="base" d="M{_EDGE:g} {middle:g}H{_WIDTH - _EDGE:g}"/>']
    if reference is not None and margin is not None:
        left, right = place(reference - margin), place(reference + margin)
        parts.append(f'<rect class="band" x="{left:.1f}" y="2" width="{right - left:.1f}" height="{_HEIGHT - 4:g}"/>')
    if reference is not None:
        parts.append(f'<path class="reference" d="M{place(reference):.1f} 2V{_HEIGHT - 2:g}"/>')
    if interval is not None:
        low, high = (place(end) for end in interval)
        parts.append(f'<path class="interval" d="M{low:.1f} {middle:g}H{max(high, low + 0.5):.1f}"/>')
        if interval[0] < reach[0]:
            parts.append(f'<path class="interval" d="M{_EDGE + 4:g} {middle - 4:g}L{_EDGE:g} {middle:g}l4 4"/>')
        if interval[1] > reach[1]:
            end = _WIDTH - _EDGE
            parts.append(f'<path class="interval" d="M{end - 4:g} {middle - 4:g}L{end:g} {middle:g}l-4 4"/>')
    if reach[0] <= value <= reach[1]:
        parts.append(f'<circle cx="{place(value):.1f}" cy="{middle:g}" r="3.6"/>')
    size = f'viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}" height="{_HEIGHT:g}"'
    return Markup(f'<svg class="strip" {size} aria-hidden="true">{"".join(parts)}</svg>')


def histogram(
    edges: Sequence[float],
    layers: Sequence[tuple[str, Sequence[int]]],
    *,
    description: str,
    reference: float | None = 0.0,
    most: int | None = None,
    width: float = 344.0,
) -> Markup:
    """Draw stacked counts between edges; the first layer stands at the bottom, full, the second above it, pale.

    `most` is the count at the top, for several histograms on one scale; `width` is in CSS pixels. The unit under the
    axis is the caption's to say.
    """
    height, left, top, bottom = 0.28 * width + 54, 40.0, 14.0, 24.0
    sums = [sum(counts[place] for _, counts in layers) for place in range(len(edges) - 1)]
    tallest = most or max([*sums, 1])
    low, high = edges[0], edges[-1]

    def across(value: float) -> float:
        return left + (width - left - 10) * (value - low) / ((high - low) or 1.0)

    def up(count: float) -> float:
        return height - bottom - (height - bottom - top) * count / tallest

    parts = [
        f'<path class="base" d="M{left:g} {up(0):g}H{width - 10:g}"/>',
        f'<text x="{left - 6:g}" y="{up(tallest) + 4:.1f}" text-anchor="end">{tallest:,}</text>',
        f'<text x="{left - 6:g}" y="{up(0) + 4:.1f}" text-anchor="end">0</text>',
    ]
    for place in range(len(edges) - 1):
        below = 0
        for number, (_, counts) in enumerate(layers):
            if counts[place]:
                x, wide = across(edges[place]), across(edges[place + 1]) - across(edges[place])
                y, tall = up(below + counts[place]), up(below) - up(below + counts[place])
                shape = f'x="{x + 0.5:.1f}" y="{y:.1f}" width="{max(0.5, wide - 1):.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="{"pale" if number else "full"}" {shape}/>')
                below += counts[place]
    if reference is not None and low <= reference <= high:
        parts.append(f'<path class="reference" d="M{across(reference):.1f} {top - 6:g}V{up(0):g}"/>')
    parts += [
        f'<text x="{across(value):.1f}" y="{height - 6:g}" text-anchor="middle">{_plain(value)}</text>'
        for value in _ticks(low, high, 6 if width > 300 else 4)
    ]
    label = escape(visible(description))
    head = f'<svg class="plot counts" role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}">'
    return Markup(f"{head}{''.join(parts)}</svg>")


def _ticks(low: float, high: float, most: int) -> list[float]:
    """A few round values within the range."""
    edges = round_edges([low, high], most)
    return [edge for edge in edges if low <= edge <= high]


def _plain(value: float) -> str:
    return f"{value:g}".replace("-", "−")
