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


AuditInstrument = Literal["hans", "association", "winogender", "winobias", "crows_pairs", "bbq"]


class AuditConfig(Section):
    """Instruments that ask what a model has learned beside its task, and their sizes."""

    instruments: tuple[AuditInstrument, ...] = ("hans", "association")
    """The instruments, in the order of the report."""
    data: str | None = None
    """Directory with official files of winogender, winobias, crows_pairs and bbq, in folders of these names or flat;
    `$NAME` is filled in. Default: $MEGALITH_DATA/benchmarks."""
    items: PositiveInt = 200
    """Items (at most): sentences of winogender, of each type of winobias, pairs of each type of crows_pairs, questions
    of each category of bbq."""
    occupations: str | None = None
    """File of the association test's occupations, one a line or a JSON list; default: 66 of our own."""
    hans_examples: PositiveInt = 20
    """Examples of each heuristic and label (three heuristics × two labels)."""
    shots: NonNegativeInt = 0
    generated_tokens: PositiveInt = 60
    """Tokens of each sample of text in the report."""
