"""The section `curate.heuristics`: thresholds of the document rules, alone or by preset.

A rule is off at its neutral value. A preset names the rules of one paper at its own thresholds; keys that are given
beside it win. `curation/steps/heuristics` defines a word, a line and a paragraph, and over what a share is taken.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, model_validator

from megalith.recipe.base import NonNegativeInt, PositiveInt, Section

HeuristicsPreset = Literal["mt-nlg", "gopher", "c4", "fineweb", "none"]


class HeuristicsConfig(Section):
    """Thresholds of the document rules; each is off at its neutral value. Shares are between 0 and 1."""

    preset: HeuristicsPreset = "mt-nlg"
    """Defaults of the keys that are not set. mt-nlg: MT-NLG's shortest length and most of Gopher's rules; gopher,
    c4: all rules of these papers; fineweb: FineWeb's chain, which is Gopher's, C4's but for line ends, and its own;
    none: every rule off."""

    by_language: bool = True
    """Documents in other languages than English have their own stop words and, for rules at the papers' thresholds,
    their own thresholds (FineWeb-2's, for 76 languages); no: all are judged as English."""
    minimum_characters: NonNegativeInt = 512
    """MT-NLG §3: documents under 512 characters are dropped. By language: a third of it in Chinese and Japanese, half
    in Korean."""
    minimum_words: NonNegativeInt = 50
    """Gopher, Table A1. Words of symbols alone do not count; two characters of a script without spaces are a word."""
    maximum_words: PositiveInt = 10_000_000
    """Gopher: 100,000, which leaves out books."""
    mean_word_length: tuple[float, float] = (3.0, 10.0)
    """Gopher: between 3 and 10 characters."""
    maximum_symbol_ratio: NonNegativeFloat = 0.1
    """Gopher: `#`, or ellipses, per word."""
    maximum_bullet_lines: float = Field(default=0.9, ge=0.0, le=1.0)
    """Gopher: share of lines that begin with a bullet."""
    maximum_ellipsis_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Gopher: share of lines that end with an ellipsis."""
    minimum_alphabetic_words: float = Field(default=0.8, ge=0.0, le=1.0)
    """Gopher: share of words with an alphabetic character."""
    minimum_stop_words: NonNegativeInt = 2
    """Gopher: different ones of the, be, to, of, and, that, have, with; or of the document's language."""

    maximum_duplicate_lines: float = Field(default=1.0, ge=0.0, le=1.0)
    """Gopher: share of lines that stood before in the text, 0.3."""
    maximum_duplicate_paragraphs: float = Field(default=1.0, ge=0.0, le=1.0)
    """Gopher: share of paragraphs that stood before in the text, 0.3."""
    maximum_duplicate_line_characters: float = Field(default=0.2, ge=0.0, le=1.0)
    """Gopher: share of characters in such lines."""
    maximum_duplicate_paragraph_characters: float = Field(default=1.0, ge=0.0, le=1.0)
    """Gopher: share of characters in such paragraphs, 0.2."""
    maximum_top_ngram_characters: tuple[float, float, float] = (0.20, 0.18, 0.16)
    """Gopher: share of characters in the most frequent 2-, 3- and 4-gram. It passes 1 where occurrences overlap."""
    maximum_duplicate_ngram_characters: tuple[float, float, float, float, float, float] = (1.0,) * 6
    """Gopher: share of characters in 5-, 6-, … 10-grams that stood before, 0.15, 0.14, … 0.10."""

    minimum_sentences: NonNegativeInt = 0
    """FineWeb: 5. Sentences in lines of three words and more that have no "javascript", no notice on cookies or terms,
    no word over 1000 characters: the lines that C4 keeps, whatever they end with."""
    minimum_terminated_sentences: NonNegativeInt = 0
    """C4: 5. Those of them in lines that end with a full stop, exclamation mark, question mark or quotation mark."""
    allow_lorem_ipsum: bool = True
    """C4: no."""
    allow_curly_brackets: bool = True
    """C4: no; a page with `{` is program text more often than not."""
    maximum_javascript_lines: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of lines with the word "javascript". C4 leaves such lines out."""
    maximum_policy_lines: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of lines with a notice on cookies or terms of use. C4 leaves such lines out."""
    maximum_lines_of_few_words: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of lines of fewer than three words. C4 leaves such lines out."""
    maximum_unterminated_lines: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of lines without C4's line ends. C4 leaves such lines out."""

    minimum_punctuated_lines: float = Field(default=0.0, ge=0.0, le=1.0)
    """FineWeb: share of lines that end with a sentence's end (Unicode's Sentence_Terminal), 0.12."""
    maximum_short_lines: float = Field(default=1.0, ge=0.0, le=1.0)
    """FineWeb: share of lines of 30 characters and fewer, 0.67."""
    maximum_duplicate_text_line_characters: float = Field(default=1.0, ge=0.0, le=1.0)
    """FineWeb: characters in lines that stood before, as share of all but newlines, 0.01."""
    maximum_newlines_per_word: NonNegativeFloat = 1e9
    """FineWeb: 0.3."""

    @model_validator(mode="before")
    @classmethod
    def _with_its_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, Mapping) else None
        return {**_PRESETS[name], **given} if isinstance(name, str) and name in _PRESETS else given


_NONE: dict[str, Any] = {
    "minimum_characters": 0,
    "minimum_words": 0,
    "maximum_words": 2**62,
    "mean_word_length": (0.0, 1e9),
    "maximum_symbol_ratio": 1e9,
    "maximum_bullet_lines": 1.0,
    "maximum_ellipsis_lines": 1.0,
    "minimum_alphabetic_words": 0.0,
    "minimum_stop_words": 0,
    "maximum_duplicate_line_characters": 1.0,
    "maximum_top_ngram_characters": (1e9, 1e9, 1e9),
}
_GOPHER: dict[str, Any] = {
    "minimum_characters": 0,
    "maximum_words": 100_000,
    "maximum_duplicate_lines": 0.3,
    "maximum_duplicate_paragraphs": 0.3,
    "maximum_duplicate_paragraph_characters": 0.2,
    "maximum_duplicate_ngram_characters": (0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
}
_C4: dict[str, Any] = {"allow_lorem_ipsum": False, "allow_curly_brackets": False}
_PRESETS: dict[str, dict[str, Any]] = {
    "mt-nlg": {},
    "none": _NONE,
    "gopher": _GOPHER,
    "c4": _NONE | _C4 | {"minimum_terminated_sentences": 5},
    "fineweb": {
        **_GOPHER,
        **_C4,
        "minimum_sentences": 5,
        "minimum_punctuated_lines": 0.12,
        "maximum_short_lines": 0.67,
        "maximum_duplicate_text_line_characters": 0.01,
        "maximum_newlines_per_word": 0.3,
    },
}
