"""A scene as PNG, drawn by matplotlib on light paper: the same rectangles, lines and words as in the SVG."""

from pathlib import Path as File
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from megalith.planning.timeline.colours import COLOURS
from megalith.planning.timeline.scene import Boxes, Line, Scene, Words

SHARP = 1700  # CSS pixels: narrower pictures get two dots a pixel
_AROUND = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
_ALIGN: dict[str, Any] = {"start": "left", "middle": "center", "end": "right"}


def write_png(scene: Scene, path: File) -> None:
    """Write the picture, whatever the suffix of `path`."""
    dots = 2 if scene.width <= SHARP else 1
    with rc_context({"text.parse_math": False, "path.simplify": False, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(scene.width / 72, scene.height / 72), dpi=72 * dots, facecolor=COLOURS["paper"].light)
        FigureCanvasAgg(figure)
        place = Affine2D().scale(dots, -dots).translate(0, scene.height * dots)
        for item in scene.items:
            _draw(figure, item, place)
        figure.savefig(path, format="png", metadata={"Software": None}, facecolor=figure.get_facecolor())


def _draw(figure: Figure, item: Boxes | Words | Line, place: Affine2D) -> None:
    colour = COLOURS[item.role].light
    match item:
        case Boxes(_, opacity, boxes):
            if boxes:
                patch = PathPatch(_outline(boxes), facecolor=colour, alpha=opacity, linewidth=0, transform=place)
                figure.add_artist(patch)
        case Line(_, width, opacity, points):
            xs, ys = zip(*points, strict=True)
            line = Line2D(xs, ys, color=colour, linewidth=width, alpha=opacity, transform=place)
            figure.add_artist(line)
        case Words():
            weight = "bold" if item.bold else "normal"
            figure.text(
                item.x, item.y, item.text, color=colour, size=item.size, weight=weight, ha=_ALIGN[item.anchor],
                va="baseline", transform=place,
            )  # fmt: skip


def _outline(boxes: Any) -> Path:
    x, y, width, height = np.asarray(boxes, dtype=float).T
    corners = np.stack(
        [
            np.stack([x + across * width, y + down * height], 1)
            for across, down in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0))
        ],
        1,
    )  # (boxes, 5, 2)
    return Path(corners.reshape(-1, 2), np.tile(_AROUND, len(boxes)))
