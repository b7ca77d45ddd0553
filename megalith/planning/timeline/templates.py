"""The pages that are drawn of steps: one frame, in the timeline's colours; each has its style, and fetches nothing."""

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from megalith.planning.timeline.colours import COLOURS, name

_PLANNING = "megalith.planning"


def file_of(room: str, file: str) -> Markup:
    """The text of a file beside a page, which is put into it as it is."""
    return Markup((resources.files(_PLANNING) / room / file).read_text(encoding="utf-8"))


def render(room: str, **values: Any) -> str:
    """The page of a room of planning, with its style; `values` have at least `title` and `legend`."""
    environment = Environment(
        loader=PackageLoader(_PLANNING, ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{room}/page.html").render(
        colours=[(name(role), colour) for role, colour in COLOURS.items()],
        style=file_of(room, "page.css"),
        **values,
    )
