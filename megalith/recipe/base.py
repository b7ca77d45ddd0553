"""The base of every section of a recipe shares: frozen, closed to unknown keys, and numbers that have a bound."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0, lt=2**63)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**63)]
Dimension = Annotated[int, Field(gt=0, lt=2**31)]
"""A width, a length or a number of ranks: loops and tables go up to it, or to its square root."""


class Section(BaseModel):
    """One section of a recipe. Each field's docstring says what it means and in which unit."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


def key_of(section: type[BaseModel], name: str) -> str:
    """The key in a recipe of a section's field: its name, but for a word that Python has for itself."""
    return section.model_fields[name].alias or name
