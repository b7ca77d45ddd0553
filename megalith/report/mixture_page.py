"""The page of a search for a blend's weights: one file, figures inline, nothing fetched."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megalith import __version__
from megalith.report import mixture_plots
from megalith.report.formats import DASH, count, fixed, span
from megalith.report.pages import render_page, write_page

PAGE = "blend.html"


def write_mixtures(directory: Path, found: Mapping[str, Any]) -> Path:
    """Write the page of a search whose proxy runs are regressed, and return its path."""
    write_page(directory / PAGE, render(found))
    return directory / PAGE


def render(found: Mapping[str, Any]) -> str:
    """Render the page: a pure function of what the search found."""
    weights = {"natural": [one["natural"] for one in found["datasets"]]}
    if all(one["recipe"] is not None for one in found["datasets"]):
        weights["recipe"] = [one["recipe"] for one in found["datasets"]]
    return render_page(
        "mixture.html",
        name=found["recipe"],
        kind="blend search",
        version=__version__,
        found=found,
        design=found["design"],
        verdict=verdict(found),
        weights=weights,
        headlines=_headlines(found),
        figures={
            "weights": mixture_plots.weights(found),
            "ranking": mixture_plots.ranking(found),
            "shares": mixture_plots.shares(found),
        },
    )


def verdict(found: Mapping[str, Any]) -> str:
    """One sentence on whether to use the weights."""
    if found["refused"]:
        return f"No weights are recommended: {found['refused']}."
    if found["check"] is None:
        return "The check runs are still to come: until then the weights are a prediction."
    said = {"better": "better than", "worse": "worse than", "not told apart": "not told apart from"}
    told = [
        f"{said[one['verdict']]} the {one['against']} ones ({fixed(one['difference'], 4)} nats, 95 % "
        f"{span(one['interval'], fixed, 4)})"
        for one in found["check"]["differences"]
    ]
    return f"In runs as long as a proxy's, these weights are {' and '.join(told)}."


def _headlines(found: Mapping[str, Any]) -> list[dict[str, str]]:
    regression, design = found["regression"], found["design"]
    best, check = found["found"], found["check"]
    gain = check["differences"][0] if check else None
    return [
        {"label": "proxy runs", "figure": count(design["mixtures"]),
         "beside": f"of {count(design['run']['non_embedding'])} parameters, {count(design['run']['tokens'])} tokens"},
        {"label": "rank correlation", "figure": fixed(regression["spearman"], 2),
         "beside": f"held out, 95 % {span(regression['interval'], fixed, 2)}"},
        {"label": "predicted", "figure": fixed(best["predicted"], 3) if best else DASH,
         "beside": f"nats per token; natural {fixed(best['predicted_natural'], 3)}" if best else "refused"},
        {"label": "found − natural", "figure": fixed(gain["difference"], 4) if gain else DASH,
         "beside": f"nats in check runs, 95 % {span(gain['interval'], fixed, 4)}" if gain else "not checked"},
        {"label": "most repeated",
         "figure": f"{fixed(max(best['epochs']), 2)} ×" if best else DASH,
         "beside": f"of {count(design['target_tokens'])} tokens; cap {fixed(design['most_epochs'], 1)} ×"},
    ]  # fmt: skip
