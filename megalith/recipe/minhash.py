"""The section `curate.minhash`: what a shingle is, how many hashes, and how they are banded."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from megalith.recipe.base import PositiveInt, Section


class MinHashConfig(Section):
    """Fuzzy duplicates: MinHash, bands, verification, connected components."""

    preset: Literal["paper", "recall"] = "paper"
    """Bands and rows where they are not given. paper: 20 × 13, MT-NLG's, which meets a pair of Jaccard similarity 0.80,
    0.85, 0.90 with probability 0.68, 0.92, 0.997; recall: 25 × 10, with 0.94, 0.996, 1.000."""
    shingle_words: PositiveInt = 5
    """A shingle is this many consecutive words (`\\w+`, lower-cased). A Jaccard threshold means nothing without it."""
    bands: PositiveInt = 20
    rows: PositiveInt = 13
    """Two documents are compared if they agree in all `rows` hashes of one of `bands` bands."""
    minimum_jaccard: float = Field(default=0.8, gt=0.0, le=1.0)
    """Candidates under this estimated Jaccard similarity are kept apart."""

    @model_validator(mode="before")
    @classmethod
    def _with_its_preset(cls, given: Any) -> Any:
        recall = isinstance(given, Mapping) and given.get("preset") == "recall"
        return {"bands": 25, "rows": 10, **given} if recall else given
