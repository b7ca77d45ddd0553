"""The section `curate.minhash`: what a shingle is, how many hashes, and how they are banded."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from megalith.recipe.base import PositiveInt, Section


class MinHashConfig(Section):
    """Fuzzy duplicates: MinHash, bands, verification, connected components."""

    preset: Literal["paper", "recall", "characters"] = "paper"
    """Bands and rows where they are not given. paper: 20 × 13, MT-NLG's, which meets a pair of Jaccard similarity 0.80,
    0.85, 0.90 with probability 0.68, 0.92, 0.997; recall: 25 × 10, with 0.94, 0.996, 1.000; characters: shingles of 4
    letters, 50 × 6, at least 0.6, which finds copies with letters changed here and there (2 %: similarity 0.7 to
    0.83) in any language, where five words in a row are rarely whole."""
    shingle_words: PositiveInt = 5
    """A shingle is this many consecutive words, lower-cased. A Jaccard threshold means nothing without it."""
    unspaced_characters: PositiveInt = 2
    """In scripts without spaces between words (Han, kana, Thai, Khmer, Lao, Burmese), this many characters."""
    shingle_characters: PositiveInt | None = None
    """In place of words: this many letters of any script, whatever stands between them."""
    bands: PositiveInt = 20
    rows: PositiveInt = 13
    """Two documents are compared if they agree in all `rows` hashes of one of `bands` bands."""
    minimum_jaccard: float = Field(default=0.8, gt=0.0, le=1.0)
    """Candidates under this estimated Jaccard similarity are kept apart."""

    @model_validator(mode="before")
    @classmethod
    def _with_its_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, Mapping) else None
        return {**_PRESETS[name], **given} if isinstance(name, str) and name in _PRESETS else given

    @property
    def signed_by(self) -> dict[str, int | None]:
        """The settings on which a signature depends."""
        return self.model_dump(exclude={"preset", "minimum_jaccard"})


_PRESETS: dict[str, dict[str, Any]] = {
    "recall": {"bands": 25, "rows": 10},
    "characters": {"bands": 50, "rows": 6, "shingle_characters": 4, "minimum_jaccard": 0.6},
}
