"""The sections that judge the model: `evaluate`, `audit`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from megalith.recipe.base import NonNegativeInt, PositiveInt, Section

Form = Literal["continuation", "unconditional", "letter", "bits_per_byte"]


class EvaluateConfig(Section):
    """Tasks, the solved examples in the prompt, and how answers are compared."""

    LATER: ClassVar[tuple[str, ...]] = ("every",)

    tasks: tuple[str, ...] = ("perplexity", "last_word", "continuation", "arithmetic")
    """Names of tasks, each with another wording if one is named (boolq.gpt3), and task files of your own."""
    data: str | None = None
    """Directory with the official files of tasks; `$NAME` is filled in. Default: $MEGALITH_DATA/benchmarks."""
    texts: str | None = None
    """Texts for `perplexity` in place of held-out documents: a text file, a directory of them, or JSON lines."""
    shots: tuple[NonNegativeInt, ...] = (0, 1, 4)
    """Numbers of solved examples before each question."""
    fixed_shots: bool = False
    """Show all questions the same solved examples; else each has its own, drawn by its id."""
    shot_seed: int | None = None
    """Seed of the draw of solved examples. Default: the recipe's."""
    shot_order: Literal["drawn", "reversed", "rotated", "by_label"] = "drawn"
    order_seed: int | None = None
    """Permutes the same solved examples."""
    shot_labels: Literal["drawn", "balanced"] | dict[str, float] = "drawn"
    """The classes of solved examples: as drawn, equally many of each, or the share of each class."""
    wrong_labels: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of solved examples that show a wrong answer."""
    items: PositiveInt | Literal["all"] = 200
    """Questions of each task (at most), drawn by a hash of their ids."""
    forms: tuple[Form, ...] = ("continuation", "bits_per_byte")
    """How the answers of a multiple-choice question are compared."""
    too_long: Literal["drop_shots", "left", "error"] = "drop_shots"
    """A prompt longer than the model's context: leave out whole solved examples, cut it from the left, or stop."""
    prefix: Literal["auto", "none", "bos", "eot"] = "auto"
    """The token in front of every text; auto: the model's own convention."""
    batch_invariant: bool = False
    """The same bits whatever the batch, at some cost in speed."""
    document_characters: PositiveInt = 50_000
    """Perplexity reads at most this much of each held-out document, from its beginning."""
    stride: PositiveInt | None = None
    """Tokens by which the windows of a perplexity move; Megatron-LM's is 32. Default: ¾ of the context."""
    batch_tokens: PositiveInt = 8192
    """Tokens scored in one forward pass."""
    every: NonNegativeInt = 0
    """Steps of training between scorings of the tasks on the live weights; 0: after training alone."""
    contamination: bool = True
    """Look for the documents of all tasks in the curated training text, where there is one; it is read once."""


AuditInstrument = Literal[
    "hans",
    "hans_shots",
    "in_context",
    "association",
    "winogender",
    "winobias",
    "crows_pairs",
    "bbq",
    "adjectives",
    "toxicity",
    "probes",
]


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
    hans_file: str | None = None
    """HANS's official evaluation set (.txt or .jsonl); default: examples made from templates of our own."""
    shots: NonNegativeInt = 0
    """Solved examples before each question of hans."""
    shot_counts: tuple[NonNegativeInt, ...] = Field(default=(0, 1, 2, 4, 8), min_length=1)
    """Numbers of solved examples that hans_shots and in_context compare; the first is what others are compared with."""
    varied_shots: PositiveInt = 4
    """Solved examples where hans_shots and in_context vary their source, order or labels."""
    in_context_tasks: tuple[str, ...] = Field(default=("hans_generated",), min_length=1)
    """Multiple-choice tasks of `evaluate` whose sensitivity to the prompt is measured."""
    in_context_documents: PositiveInt = 50
    """Documents (at most) of each of these tasks."""
    in_context_draws: PositiveInt = 5
    """Draws of solved examples that are compared."""
    in_context_orders: PositiveInt = 4
    """Orders of each draw that are compared."""
    texts: PositiveInt = 20
    """Texts written after each of the 28 prompts of adjectives and toxicity. GPT-3's test has 800."""
    text_tokens: PositiveInt = 50
    """Tokens (at most) of each of these texts."""
    generated_tokens: PositiveInt = 60
    """Tokens of each sample of text in the report, and of each free text of probes."""
