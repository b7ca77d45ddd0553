"""`generation.json`: how a model that was made elsewhere begins a text, and which tokens end it.

It lies beside the model's `tokenizer.json`. A model that Megalith trained from scratch needs none: `<|endoftext|>`, id
0, stands in front of every text and after it.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from megalith.input_files import read_model

GENERATION = "generation.json"
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


class Conventions(BaseModel):
    """Token ids with a meaning to the model, and its chat template."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: int | None
    """Stands in front of every text; None: nothing does."""
    end_of_text: tuple[int, ...] = Field(min_length=1)
    """Each of these ends a generated text."""
    separator: int | None = None
    """Follows each document of a corpus. Default: the first of `end_of_text`."""
    begin_of_text: int | None = None
    """Read where a text has nothing in front of its first token. Default: the prefix, or else the separator."""
    padding: int | None = None
    unknown: int | None = None
    chat_template: str | None = None
    """Jinja, as `tokenizer_config.json` holds it; its special tokens are encoded as tokens."""

    @property
    def document_end(self) -> int:
        """The id after each document of a corpus."""
        return self.end_of_text[0] if self.separator is None else self.separator

    @property
    def ids(self) -> tuple[int, ...]:
        """All ids that it names."""
        named = (self.prefix, *self.end_of_text, self.separator, self.begin_of_text, self.padding, self.unknown)
        return tuple(each for each in named if each is not None)


OURS = Conventions(prefix=END_OF_TEXT_ID, end_of_text=(END_OF_TEXT_ID,))
"""The conventions of what Megalith trains from scratch."""


def read_conventions(directory: Path) -> Conventions | None:
    """The conventions in a model's or tokenizer's directory, or None. Raises InputError where they are damaged."""
    path = directory / GENERATION
    return read_model(path, Conventions, mend="Import the model again.") if path.is_file() else None
