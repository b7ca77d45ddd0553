"""Shared by all pages: templates that escape, filters that format figures, the style sheet."""

from importlib import resources

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

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
