"""Shared by all pages: templates that escape, filters that format figures, the style sheet, and the one script."""

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from megalith.artifacts import Workspace
from megalith.report import formats


def environment() -> Environment:
    """Return the templates; everything that they print is made visible, then escaped."""
    made = Environment(
        loader=PackageLoader("megalith.report", ""),
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=formats.visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for form in (
        formats.whole, formats.count, formats.fixed, formats.significant, formats.power, formats.percent,
        formats.difference, formats.data, formats.duration, formats.score, formats.span, formats.words,
        formats.counted,
    ):  # fmt: skip
        made.filters[form.__name__] = form
    for form in (formats.significant, formats.percent, formats.fixed, formats.count):  # named as arguments of `span`
        made.globals[form.__name__] = form
    made.tests["share"] = formats.is_share
    return made


def style() -> Markup:
    """Return the style sheet, for use inside a page."""
    return Markup((resources.files("megalith.report") / "report.css").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Script:
    """A script of a page, and the source that its content security policy names: no other script runs."""

    text: Markup
    source: Markup


def _script(name: str) -> Script:
    text = (resources.files("megalith.report") / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Script(Markup(text), Markup(f"sha256-{digest}"))


def render_page(template: str, *, script: str | None = None, **values: Any) -> str:
    """Render a page of its own with the style sheet and, if one is named, a script."""
    named = None if script is None else _script(script)
    return environment().get_template(template).render(style=style(), script=named, **values)


def page_beside(directory: Path, page: str) -> Path:
    """Write a page beside the artifact at `directory`, which is never changed: `evaluate` has `evaluate.html`."""
    place = directory if directory.name.strip(".") else directory.resolve()
    path = place.with_name(f"{place.name}.html")
    write_page(path, page)
    return path


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all."""
    with Workspace(path.parent).file(path.name) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
