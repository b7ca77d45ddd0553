"""`model.rotary_scaling`: rotary positions stretched to more tokens than a model first learned on."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from megalith.recipe.base import Dimension, Section

_OWN: dict[str, tuple[str, ...]] = {
    "linear": (),
    "llama3": ("original_length", "low_frequency_factor", "high_frequency_factor"),
    "yarn": ("original_length", "beta_fast", "beta_slow", "attention_factor"),
}
"""The keys of each kind, beside `factor`."""


class RotaryScaling(Section):
    """Rotary positions for a context that is longer than the one they were learned on."""

    kind: Literal["linear", "llama3", "yarn"]
    """linear: all rates divided (2306.15595). llama3: the slow ones alone. yarn: 2309.00071."""
    factor: float = Field(ge=1.0)
    """How much longer the context has become."""
    original_length: Dimension | None = None
    """llama3, yarn: tokens of context before."""
    low_frequency_factor: PositiveFloat | None = None
    """llama3: a rate of fewer turns than this over the original length is divided by `factor`. Default: 1."""
    high_frequency_factor: PositiveFloat | None = None
    """llama3: a rate of more turns than this is left as it is; those between are blended. Default: 4."""
    beta_fast: PositiveFloat | None = None
    """yarn: turns over the original length above which a rate is left as it is. Default: 32."""
    beta_slow: PositiveFloat | None = None
    """yarn: turns below which a rate is divided by `factor`. Default: 1."""
    attention_factor: PositiveFloat | None = None
    """yarn: factor of rotated queries and keys. Default: 0.1 · ln(factor) + 1."""

    @model_validator(mode="after")
    def _keys_belong_to_the_kind(self) -> Self:
        for name in sorted({name for names in _OWN.values() for name in names} - set(_OWN[self.kind])):
            if getattr(self, name) is not None:
                kinds = " or ".join(kind for kind, names in _OWN.items() if name in names)
                raise ValueError(f"{name} belongs to the kind {kinds}, not to {self.kind}: leave it out")
        if "original_length" in _OWN[self.kind] and self.original_length is None:
            raise ValueError(f"{self.kind} wants original_length: the tokens of context before the scaling")
        if self.low_turns >= self.high_turns:
            low, high = (
                ("beta_slow", "beta_fast") if self.kind == "yarn" else ("low_frequency_factor", "high_frequency_factor")
            )
            raise ValueError(f"{low} is {self.low_turns:g} and {high} {self.high_turns:g}: the first must be smaller")
        return self

    @property
    def low_turns(self) -> float:
        """Turns over the original length below which a rate is divided by `factor`."""
        return (self.beta_slow if self.kind == "yarn" else self.low_frequency_factor) or 1.0

    @property
    def high_turns(self) -> float:
        """Turns over the original length above which a rate is left as it is."""
        return self.beta_fast or 32.0 if self.kind == "yarn" else self.high_frequency_factor or 4.0
