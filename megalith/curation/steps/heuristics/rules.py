"""Which documents the rules drop, by their signals: other thresholds need no second look at the text."""

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation.steps.heuristics.by_language import rules_of
from megalith.curation.steps.heuristics.signals import DUPLICATE_NGRAM_CHARACTERS, TOP_NGRAM_CHARACTERS
from megalith.recipe.heuristics import HeuristicsConfig

Array = npt.NDArray[Any]


def reasons(signals: pa.Table, rules: HeuristicsConfig, languages: Sequence[str] | None = None) -> pa.Array:
    """For each row of a `signal_table` the first rule that it fails, by its key in the recipe, or null.

    With `languages`, one a row, a row is judged by the thresholds of its language.
    """
    if languages is None:
        return _reasons(signals, rules)
    judged = np.full(len(signals), None, object)
    codes = np.array(languages, object)
    for language in sorted(set(codes.tolist())):
        rows = np.flatnonzero(codes == language)
        judged[rows] = _reasons(signals.take(pa.array(rows)), rules_of(language, rules)).to_pylist()
    return pa.array(judged, pa.string())


def _reasons(signals: pa.Table, rules: HeuristicsConfig) -> pa.Array:
    named = np.full(len(signals), -1, np.int16)
    names: list[str] = []
    for name, fails in _judgements(signals, rules):
        if name not in names:
            names.append(name)
        named[(named < 0) & fails] = names.index(name)
    return pa.DictionaryArray.from_arrays(pa.array(named, mask=named < 0), pa.array(names, pa.string())).cast(
        pa.string()
    )


def _judgements(signals: pa.Table, rules: HeuristicsConfig) -> Iterator[tuple[str, Array]]:
    def column(name: str) -> Array:
        values: Array = signals[name].to_numpy()
        return values

    worded = column("words") > 0
    for rule, compare in _RULES.items():
        passes_without_words = rule in ("mean_word_length", "minimum_alphabetic_words")
        for signal, threshold in _thresholds(rule, getattr(rules, rule)):
            fails = compare(column(signal), threshold)
            yield rule, fails & worded if passes_without_words else fails


def _thresholds(rule: str, value: Any) -> list[tuple[str, Any]]:
    """The signals that a rule looks at, each with its threshold."""
    if rule == "maximum_top_ngram_characters":
        return list(zip(TOP_NGRAM_CHARACTERS, value, strict=True))
    if rule == "maximum_duplicate_ngram_characters":
        return list(zip(DUPLICATE_NGRAM_CHARACTERS, value, strict=True))
    return [(rule.removeprefix("minimum_").removeprefix("maximum_").removeprefix("allow_"), value)]


def _outside(found: Array, bounds: tuple[float, float]) -> Array:
    return (found < bounds[0]) | (found > bounds[1])


def _stands(found: Array, allowed: bool) -> Array:
    return (found > 0) & (not allowed)


_RULES: dict[str, Callable[[Array, Any], Array]] = {
    "minimum_characters": operator.lt,
    "minimum_words": operator.lt,
    "maximum_words": operator.gt,
    "mean_word_length": _outside,
    "maximum_symbol_ratio": operator.gt,
    "maximum_bullet_lines": operator.gt,
    "maximum_ellipsis_lines": operator.gt,
    "minimum_alphabetic_words": operator.lt,
    "minimum_stop_words": operator.lt,
    "maximum_duplicate_lines": operator.gt,
    "maximum_duplicate_paragraphs": operator.gt,
    "maximum_duplicate_line_characters": operator.gt,
    "maximum_duplicate_paragraph_characters": operator.gt,
    "maximum_top_ngram_characters": operator.gt,
    "maximum_duplicate_ngram_characters": operator.gt,
    "minimum_sentences": operator.lt,
    "minimum_terminated_sentences": operator.lt,
    "allow_lorem_ipsum": _stands,
    "allow_curly_brackets": _stands,
    "maximum_javascript_lines": operator.gt,
    "maximum_policy_lines": operator.gt,
    "maximum_lines_of_few_words": operator.gt,
    "maximum_unterminated_lines": operator.gt,
    "minimum_punctuated_lines": operator.lt,
    "maximum_short_lines": operator.gt,
    "maximum_duplicate_text_line_characters": operator.gt,
    "maximum_newlines_per_word": operator.gt,
}
"""Rule → whether a signal fails its threshold, in the order in which they are asked."""
