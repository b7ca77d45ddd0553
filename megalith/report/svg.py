"""A matplotlib figure as inline SVG that takes its colours and font from the page.

Figures are drawn in the placeholder colours below; each becomes a CSS variable, so that one drawing reads in light and
in dark mode. Text stays text. The same figure gives the same bytes: no date, no random identifiers, no metadata.
"""

import io
import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from megalith.report.formats import visible

INK, MUTED, RULE, ACCENT, PAPER, FAINT = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", ACCENT: "accent", PAPER: "paper", FAINT: "faint"}

WIDE, NARROW = 720.0, 344.0
"""Widths in CSS pixels; the page shows the one that fits."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "megalith",
    "font.size": 12,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
}

Draw = Callable[[float], Figure]
"""A function that draws a figure of a width in CSS pixels."""


def canvas(width: float, height: float) -> Figure:
    """Return an empty figure of a size in CSS pixels."""
    return Figure(figsize=(width / 72, height / 72), dpi=72)


def panel(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a position in CSS pixels from the figure's upper left corner."""
    whole_width, whole_height = figure.get_size_inches() * 72
    return figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )


def responsive(name: str, description: str, draw: Draw) -> Markup:
    """Return the drawing at both widths; the style sheet shows one of them."""
    return Markup("").join(
        inline(f"{name}-{form}", description, partial(draw, width), form)
        for form, width in (("wide", WIDE), ("narrow", NARROW))
    )


def inline(name: str, description: str, draw: Callable[[], Figure], form: str = "") -> Markup:
    """Return one SVG element, labelled for screen readers. `name` is unique on the page."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the browser has other fonts
        figure = draw()
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        FigureCanvasSVG(figure)  # needs no window system
        figure.savefig(buffer, format="svg", metadata=nothing)
    width, height = figure.get_size_inches() * 72
    body = buffer.getvalue()
    body = body[body.index("<svg") :]
    body = re.sub(r"<(defs)>\s*<style.*?</style>\s*</\1>", "", body, flags=re.DOTALL)
    body = body[body.index(">") + 1 :]
    head = (
        f'<svg class="plot {form}" role="img" aria-label="{escape(visible(description))}" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px">'
    )
    return Markup(head + _settle(body, name))


def _settle(body: str, name: str) -> str:
    """Replace colours and font by the page's, and make identifiers unique."""
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]*;?", "", body)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    return re.sub(r'xlink:href="#', f'href="#{name}-', body)
