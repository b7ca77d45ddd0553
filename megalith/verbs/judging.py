"""Models side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from megalith.verbs.arguments import Place, Places, check_file, paths

if TYPE_CHECKING:
    from megalith.evaluation.compare import Comparison


def compare(
    a: Place,
    b: Place,
    *,
    more_a: Places = (),
    more_b: Places = (),
    margin_points: float = 1.0,
    margin_percent: float = 0.5,
    flips: bool = False,
    output: Place | None = None,
) -> "Comparison":
    """Two evaluations item by item: the difference with its interval, and what may be called the same.

    `a` and `b` are evaluate artifacts or expeditions; `more_a` and `more_b` further trainings (other seeds), or the
    same model with other draws of shots. A difference of shares of up to `margin_points`, or of perplexities of up to
    `margin_percent`, counts as none.
    `output` is a file for the page, which lists the flips.
    """
    from megalith.evaluation.compare import compare as compare_sides
    from megalith.report import write_comparison

    if output is not None:
        check_file(Path(output))
    found = compare_sides(
        [Path(a), *paths(more_a)],
        [Path(b), *paths(more_b)],
        margin_points=margin_points,
        margin_percent=margin_percent,
        flips=flips or output is not None,
    )
    if output is not None:
        write_comparison(asdict(found), Path(output))
    return found
