"""The page of a scaling study, or of laws fitted to any runs: one file, figures inline, nothing fetched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megalith import __version__
from megalith.artifacts import Workspace
from megalith.laws import PUBLISHED_REPETITION
from megalith.report import scaling_plots
from megalith.report.formats import count, fixed, percent, power, significant
from megalith.report.pages import environment, style

PAGE = "study.html"


def write_study(directory: Path, found: Mapping[str, Any]) -> Path:
    """Write the page of a study whose runs are fitted, and return its path."""
    return write_laws(directory / PAGE, found["fit"], found)


def write_laws(path: Path, fit: Mapping[str, Any], study: Mapping[str, Any] | None = None) -> Path:
    """Write the page of fitted laws, with the design and checks of the study that made the runs, if one did."""
    page = render(fit, study, study["recipe"] if study else Path(fit["runs"]["source"]).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Workspace(path.parent).file(path.name) as made:
        made.write_text(page, encoding="utf-8", errors="replace")
    return path


def render(fit: Mapping[str, Any], study: Mapping[str, Any] | None, name: str) -> str:
    """Render the page: a pure function of its arguments."""
    figures = {"repetition": scaling_plots.repetition(fit)}
    if fit["approach"] is not None:  # else the runs are of one size
        figures |= {
            "isoflops": scaling_plots.isoflops(fit),
            "envelope": scaling_plots.envelope(fit),
            "parameters": scaling_plots.optima(fit, "parameters"),
            "tokens": scaling_plots.optima(fit, "tokens"),
            "contours": scaling_plots.contours(fit),
        }
    return (
        environment()
        .get_template("scaling.html")
        .render(
            name=name, fit=fit, study=study, figures=figures, style=style(), version=__version__,
            headlines=_headlines(fit), kind="scaling study" if study else "scaling laws",
        )
    )  # fmt: skip


def _headlines(fit: Mapping[str, Any]) -> list[dict[str, str]]:
    if fit["approach"] is None:
        found, published = fit["repetition"], significant(PUBLISHED_REPETITION.r_d)
        return [
            {"label": "runs", "figure": count(fit["points"]), "beside": f"of one size; {fit['runs']['loss']}"},
            {
                "label": "R_D*",
                "figure": significant(found["R_D"]),
                "beside": f"{published} in 2305.16264",
            },
            {"label": "half worth", "figure": significant(found["pays_until"], 2), "beside": "epochs"},
        ]
    flops = [point[2] for point in fit["fitted_runs"]]
    second = fit["approach_2"].get("a", {}).get("exponent")
    forecast = fit["forecast"]
    return [
        {"label": "runs", "figure": count(len(fit["fitted_runs"])), "beside": fit["runs"]["loss"]},
        {"label": "FLOPs", "figure": power(max(flops), 2), "beside": f"at most; at least {power(min(flops), 2)}"},
        {"label": "a by approach 3", "figure": fixed(fit["a"], 3), "beside": "N ∝ C^a at the optimum"},
        {"label": "a by approach 2", "figure": fixed(second, 3), "beside": "IsoFLOP minima"},
        {
            "label": "held-out error",
            "figure": percent(forecast["held_out_mape"], 2),
            "beside": "of the largest budgets",
        },
    ]
