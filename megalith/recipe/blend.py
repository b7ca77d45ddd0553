"""The section `blend`: in what shares a run reads the data sets of its corpus (MT-NLG §3, table 2)."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, PositiveFloat, model_validator

from megalith.recipe.base import PositiveInt, Section


class BlendedConfig(Section):
    """One data set of the blend, under the name that `curate.datasets` gives it."""

    weight: float | None = None
    """Its share of the samples; weights need not add up to 1."""
    epochs: float | None = None
    """In place of a weight: how often it is read while the others are read as often as they say."""
    tokens: PositiveInt | None = None
    """Its size, for the table of `megalith blend`, while there are no shards to count."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.weight is None) == (self.epochs is None):
            raise ValueError("give a weight or epochs, one of the two")
        said = "weight" if self.epochs is None else "epochs"
        if self.given <= 0:
            raise ValueError(f"{said} {self.given:g} is not above 0: leave the data set out, of curate.datasets too")
        return self

    @property
    def given(self) -> float:
        """The weight or the epochs."""
        value = self.weight if self.epochs is None else self.epochs
        assert value is not None
        return value


class BlendConfig(Section):
    """Data sets by name; none reads the whole corpus as one."""

    datasets: Mapping[str, BlendedConfig] = Field(default={})
    maximum_epochs: PositiveFloat = 4.0
    """A blend that reads a data set more often is refused. Up to 4 are nearly as good as new text (2305.16264)."""

    @property
    def by_epochs(self) -> bool:
        """Whether shares are given as epochs."""
        return any(one.epochs is not None for one in self.datasets.values())

    @property
    def shares(self) -> dict[str, dict[str, float]]:
        """The settings that a run depends on."""
        said = "epochs" if self.by_epochs else "weight"
        return {name: {said: one.given} for name, one in self.datasets.items()}

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if self.by_epochs and any(one.weight is not None for one in self.datasets.values()):
            raise ValueError("some data sets have weights and some epochs: give all the same")
        return self
