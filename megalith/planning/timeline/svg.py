"""A scene as SVG: one path a colour, so that thousands of actions stay small. It follows the reader's light or dark
mode where the viewer tells it, fetches nothing, and is the same bytes for the same scene.
"""

from collections.abc import Iterator, Sequence
from html import escape

from megalith.planning.timeline.colours import COLOURS, name
from megalith.planning.timeline.scene import Boxes, Line, Scene, Words


def svg(scene: Scene) -> str:
    """The whole file."""
    size = f"{_number(scene.width)} {_number(scene.height)}"
    width, height = size.split()
    body = "\n".join(_element(item) for item in scene.items)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(scene.title)}">\n<title>{escape(scene.title)}</title>\n<style>{_style()}</style>\n'
        f'<rect class="paper" width="100%" height="100%"/>\n{body}\n</svg>\n'
    )


def _style() -> str:
    light = "".join(f".{name(role)}{{fill:{colour.light}}}" for role, colour in COLOURS.items())
    dark = "".join(f".{name(role)}{{fill:{colour.dark}}}" for role, colour in COLOURS.items())
    lines = ("muted", "rule", "ink")
    strokes = "".join(f".line-{role}{{fill:none;stroke:{COLOURS[role].light}}}" for role in lines)
    dark_strokes = "".join(f".line-{role}{{stroke:{COLOURS[role].dark}}}" for role in lines)
    return (
        "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif}"
        f"{light}{strokes}@media (prefers-color-scheme: dark){{{dark}{dark_strokes}}}"
    )


def _element(item: Boxes | Words | Line) -> str:
    match item:
        case Boxes(role, opacity, boxes):
            return f'<path class="{name(role)}"{_opacity(opacity)} d="{"".join(map(_box, boxes))}"/>'
        case Line(role, width, opacity, points):
            return f'<path class="line-{role}" stroke-width="{width:g}"{_opacity(opacity)} d="{_path(points)}"/>'
        case Words():
            weight = ' font-weight="600"' if item.bold else ""
            anchor = "" if item.anchor == "start" else f' text-anchor="{item.anchor}"'
            place = f'x="{_number(item.x)}" y="{_number(item.y)}" font-size="{item.size:g}"'
            return f'<text class="{item.role}" {place}{anchor}{weight}>{escape(item.text)}</text>'


def _box(box: tuple[float, float, float, float]) -> str:
    x, y, width, height = map(_number, box)
    return f"M{x} {y}h{width}v{height}h-{width}z"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "".join(_moves(points))


def _moves(points: Sequence[tuple[float, float]]) -> Iterator[str]:
    before: tuple[str, str] | None = None
    for point in points:
        x, y = map(_number, point)
        if before is None:
            yield f"M{x} {y}"
        elif before[0] == x:
            yield f"V{y}"
        elif before[1] == y:
            yield f"H{x}"
        else:
            yield f"L{x} {y}"
        before = (x, y)


def _opacity(opacity: float) -> str:
    return "" if opacity == 1 else f' opacity="{opacity:.3g}"'


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
