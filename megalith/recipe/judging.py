"""The sections that judge the model: `evaluate`, `audit`."""

from typing import Literal

from megalith.recipe.base import NonNegativeInt, PositiveInt, Section

Task = Literal["perplexity", "last_word", "continuation", "arithmetic"]


class EvaluateConfig(Section):
    """Tasks, and the number of solved examples in the prompt."""

    tasks: tuple[Task, ...] = ("perplexity", "last_word", "continuation", "arithmetic")
    shots: tuple[NonNegativeInt, ...] = (0, 1, 4)
    """Numbers of solved examples before each question."""
    items: PositiveInt = 200
    """Items of each task (at most)."""
    document_characters: PositiveInt = 50_000
    """Perplexity reads at most this much of each document, from its beginning."""
    batch_tokens: PositiveInt = 8192
    """Tokens scored in one forward pass."""


class AuditConfig(Section):
    """HANS heuristics and associations."""

    hans_examples: PositiveInt = 20
    """Examples of each heuristic and label (three heuristics × two labels)."""
    shots: NonNegativeInt = 0
    generated_tokens: PositiveInt = 60
    """Tokens of each sample of text in the report."""
