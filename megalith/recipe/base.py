"""The base of every section of a recipe shares: frozen, closed to unknown keys, and numbers that have a bound."""

from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)

PositiveInt = Annotated[int, Field(gt=0, lt=2**63)]
NonNegativeInt = Annotated[int, Field(ge=0, lt=2**63)]
Dimension = Annotated[int, Field(gt=0, lt=2**31)]
"""A width, a length or a number of ranks: loops and tables go up to it, or to its square root."""
WHOLE = {"defaults": True}
"""As the context of a dump: with all fields."""


class Section(BaseModel):
    """One section of a recipe. Each field's docstring says what it means and in which unit."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )
    LATER: ClassVar[tuple[str, ...]] = ()
    """Fields that older artifacts lack: at their defaults they are not written, so that keys stay what they were."""

    @model_serializer(mode="wrap")
    def _as_ever(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if info.context == WHOLE or not self.LATER:
            return values
        fields = type(self).model_fields
        later = {name for name in self.LATER if getattr(self, name) == fields[name].default}
        later |= {key_of(type(self), name) for name in later}
        return {name: value for name, value in values.items() if name not in later}


def key_of(section: type[BaseModel], name: str) -> str:
    """The key in a recipe of a section's field: its name, but for a word that Python has for itself."""
    return section.model_fields[name].alias or name
