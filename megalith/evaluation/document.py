"""A document of a task: one question in its prompt, with the continuations that are compared or the texts accepted."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Choice:
    """One of the continuations that are compared."""

    context: str
    """The whole question; differs between choices where the option stands in it (partial scoring)."""
    continuation: str
    """Begins with its own space where it needs one; never empty."""


@dataclass(frozen=True)
class Document:
    """One question of a task, rendered by one of its prompts.

    A multiple-choice document has two or more choices and a `gold`; a last-word document one choice; a document that is
    answered by generated text has none, but a `prompt` and `answers`.
    """

    id: str
    """Unique within the task, and the same whichever documents are scored."""
    prompt: str
    """The question without solved examples; the context of all choices where they have the same."""
    preamble: str = ""
    """An instruction that stands before the solved examples, with the blank line after it."""
    choices: tuple[Choice, ...] = ()
    gold: int = 0
    """Place of the right choice."""
    answers: tuple[str, ...] = ()
    """Texts that are accepted, where the answer is generated."""
    solved: str = ""
    """Question and answer as a solved example of another document's prompt."""
    solved_as: tuple[str, ...] = ()
    """The same with each choice in the answer's place, for wrong labels; empty where that makes no sense."""
    label: str = ""
    """The class of the right answer, by which shots are balanced ("True", "entailment"); else empty."""
    group: str = ""
    """The passage or template that several documents share: the independent unit of intervals. Empty: the document."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Names by which scores can be broken down: a subject, a heuristic, a sub-case."""
    stem: str = ""
    """The question before its options in the letter form; empty: the prompt without its "Answer:"."""
    options: tuple[str, ...] = ()
    """The options as the letter form lists them; empty: the continuations without their spaces."""

    @property
    def text(self) -> str:
        """The question with its right answer, as training text might hold it."""
        if self.choices:
            gold = self.choices[self.gold]
            return gold.context + gold.continuation
        return " ".join([self.prompt, *self.answers[:1]])
