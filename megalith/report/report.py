"""The expedition log: `report.html` from what the stages left on disk.

One file that opens from disk: style and figures inline, no script, and a content security policy under which a browser
fetches nothing. Texts of the corpus are shown as text, whatever they hold. A stage that left nothing
has a line saying so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from megalith.artifacts import Workspace
from megalith.errors import InputError
from megalith.input_files import read_json
from megalith.report import plots, views
from megalith.report.pages import environment, style

PAGE = "report.html"


def write_report(directory: Path) -> Path:
    """Write `report.html` into the directory of an expedition and return its path.

    Raises InputError where there is no `expedition.json`, or where one of the files it reads is not JSON.
    """
    expedition = _read(directory / "expedition.json")
    if not isinstance(expedition, Mapping):
        raise InputError(
            "there is no finished expedition here to report on.",
            where=str(directory),
            mend="Give `megalith run RECIPE --output` with this directory first.",
        )
    samples = _read(directory / "curate" / "samples.json")
    history = _read(directory / "train" / "history.json")
    page = render(expedition, samples=samples or {}, history=history or {})
    with Workspace(directory).file(PAGE) as path:
        path.write_text(page, encoding="utf-8", errors="replace")
    return directory / PAGE


def render(expedition: Mapping[str, Any], *, samples: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    """The page as text: a pure function of its arguments."""
    parts = {key: expedition.get(key) or {} for key in ("curation", "tokens", "plan", "train", "evaluate", "audit")}
    audit = parts["audit"]
    figures = {
        "funnel": plots.funnel(parts["curation"]),
        "loss": plots.loss(history, parts["train"]),
        "multiples": plots.multiples(history),
        "tasks": plots.tasks(parts["evaluate"]),
        "hans": plots.hans(audit.get("hans") or {}),
        "association": plots.association(audit.get("association") or {}),
    }
    recipe = expedition.get("recipe") or {}
    return (
        environment()
        .get_template(PAGE)
        .render(
            expedition=expedition,
            **parts,
            recipe=recipe,
            recipe_text=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100),
            samples=samples,
            figures=figures,
            style=style(),
            views=views,
        )
    )


def _read(path: Path) -> Any:
    """The JSON at `path`; None where the file is missing."""
    return read_json(path, mend="Remove it and run `megalith run` again.") if path.is_file() else None
