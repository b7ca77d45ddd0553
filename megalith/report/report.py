"""The expedition log: `report.html` from the files of the stages.

One file that opens from disk: style and figures inline, no script, and a content security policy under which a browser
fetches nothing. Texts of the corpus are shown as text, whatever they contain. A missing stage has a line that says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from megalith.artifacts import EXPEDITION, MANIFEST, Workspace, check_part, check_seal, read_manifest
from megalith.console import note
from megalith.errors import InputError
from megalith.report import plots, shapes, views
from megalith.report.pages import environment, style
from megalith.report.shapes import read_facts

PAGE = "report.html"
MEND = "Remove the file and run `megalith run` again with this directory."


def write_report(directory: Path) -> Path:
    """Write `report.html` into the directory of an expedition and return its path.

    Raises InputError where `expedition.json` is missing, or one of the files read is damaged or of another form.
    """
    if not (directory / EXPEDITION).is_file():
        raise InputError(
            f"this is not the directory of a finished expedition: {EXPEDITION} is missing.",
            where=str(directory),
            mend="Run `megalith run RECIPE --output` with this directory first.",
        )
    expedition = _read(directory / EXPEDITION, shapes.EXPEDITION)
    check_seal(expedition, directory / EXPEDITION, mend=MEND)
    _check_is_of(directory, expedition)
    samples = _read(directory / "curate" / "samples.json", shapes.SAMPLES)
    history = _read(directory / "train" / "history.json", shapes.HISTORY)
    page = render(expedition, samples=samples, history=history)
    with Workspace(directory).file(PAGE) as path:
        path.write_text(page, encoding="utf-8", errors="replace")
    return directory / PAGE


def render(expedition: Mapping[str, Any], *, samples: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    """Render the page: a pure function of its arguments."""
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


def _check_is_of(directory: Path, expedition: Mapping[str, Any]) -> None:
    """Raise InputError for figures of another model than the one that stands here; tell of stages made again since."""
    told = {each.get("stage"): each.get("digest") for each in expedition.get("artifacts") or []}
    other = []
    for stage, digest in told.items():
        if stage and (directory / stage / MANIFEST).is_file() and read_manifest(directory / stage).digest != digest:
            other.append(stage)
    if "train" in other:
        raise InputError(
            "this file tells of another run: its digest of `train` is not that of the model that stands here.",
            where=str(directory / EXPEDITION),
            mend=MEND,
        )
    for stage in other:
        note(f"{stage} has been made again since {EXPEDITION} was written: `megalith run` writes its figures")


def _read(path: Path, shape: TypeAdapter[Any]) -> Mapping[str, Any]:
    """Read the object at `path`; a missing file is an empty object."""
    if not path.is_file():
        return {}
    check_part(path)
    found: Mapping[str, Any] = read_facts(path, shape, mend=MEND)
    return found
