"""The colours of a drawn step, on light and on dark paper.

Kinds differ in lightness as well as in hue, so that they stay apart for readers who confuse red with green or blue with
yellow. Backward passes are warm: the full one lies between its two halves.
"""

from typing import NamedTuple

from megalith.planning.timeline.step import Kind


class Colour(NamedTuple):
    """On light and on dark paper."""

    light: str
    dark: str


COLOURS: dict[str, Colour] = {
    Kind.FORWARD: Colour("#74b6ea", "#6fb1e6"),
    Kind.BACKWARD: Colour("#d55e00", "#dd6010"),
    Kind.INPUT_GRADIENT: Colour("#f2bd3a", "#f2c850"),
    Kind.WEIGHT_GRADIENT: Colour("#7d2e00", "#8f3306"),
    Kind.SEND: Colour("#14181c", "#e8e8e8"),
    Kind.REDUCTION: Colour("#b5479b", "#c560ac"),
    Kind.OPTIMIZER: Colour("#006b52", "#0a8468"),
    "bubble": Colour("#ececea", "#24292d"),
    "paper": Colour("#fdfdfb", "#14171a"),
    "ink": Colour("#1c2126", "#e4e7e8"),
    "muted": Colour("#5a636c", "#9ba5ad"),
    "rule": Colour("#cfd4d0", "#3a434a"),
    "on-pale": Colour("#1c2126", "#1c2126"),
    "on-deep": Colour("#ffffff", "#ffffff"),
}
"""By what they are for: a kind of block or a part of the picture. `on-…` are of the numbers on blocks."""

DEEP = (Kind.WEIGHT_GRADIENT,)
"""Too dark for dark numbers."""


def name(role: str) -> str:
    """The role as a word of CSS: data-parallel reduction → data-parallel-reduction."""
    return role.replace(" ", "-")
