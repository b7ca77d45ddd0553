"""A task: where its questions come from, in which words they can be asked, and how answers are compared."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from megalith.errors import InputError, RecipeError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines

Kind = Literal["choice", "last_word", "generate", "perplexity"]
Prompt = Callable[[Record], Document]


def json_records(paths: Sequence[Path]) -> Iterator[Record]:
    """The JSON lines of the first file."""
    return json_lines(paths[0])


@dataclass(frozen=True)
class Task:
    """A task as data. Its first prompt is the one that is used if none is named."""

    name: str
    kind: Kind
    about: str
    """One line: what is asked."""
    paper: str
    licence: str
    """The data's licence; Megalith ships none of it."""
    prompts: Mapping[str, Prompt]
    """A record as a document, by the name of the wording: `lm_eval`, `gpt3`, ..."""
    files: tuple[DataFile, ...] = ()
    """The files with the questions; none for a task that is made on the spot."""
    shot_files: tuple[DataFile, ...] = ()
    """The files with solved examples. Where one is missing they are other questions of the task."""
    records: Callable[[Sequence[Path]], Iterator[Record]] = json_records
    shot_records: Callable[[Sequence[Path]], Iterator[Record]] | None = None
    """Reads `shot_files`, if they are of another form."""
    make: Callable[[int], Iterable[Record]] | None = None
    """Makes the records of a task without files, from a seed."""
    version: int = 1
    """Raised with every change that moves scores."""
    separator: str = "\n\n"
    """Between solved examples."""
    shots_like: str = ""
    """A field in which solved examples equal the question."""
    first_shots: bool = False
    """Whether the first examples are shown, in their order, as the task's authors do."""
    cluster: str = ""
    """A field whose values are the independent units of intervals; empty: the documents' groups."""
    by: tuple[str, ...] = ()
    """Fields by which the score is broken down."""
    stop: tuple[str, ...] = ("\n",)
    """Texts that end a generated answer."""
    generated_tokens: int = 32
    extract: Callable[[str], str] = str.strip
    """The answer in a generated text."""
    normalise: Callable[[str], str] = str.strip
    """Both answers are normalised before they are compared."""
    unconditional: str = "Answer:"
    """The context of the unconditional probability of a choice."""

    def read(self, directory: Path | None, prompt: str = "", seed: int = 0) -> list[Document]:
        """The questions, in the files' order.

        Raises InputError where a file is missing or a record is not of the task's format, RecipeError for an unknown
        prompt.
        """
        if self.make is not None:
            return self._documents(self.make(seed), prompt)
        return self._documents(self.records(self.paths(directory)), prompt)

    def pool(self, directory: Path | None, prompt: str = "", seed: int = 0) -> list[Document]:
        """The solved examples: of `shot_files`, or the questions themselves."""
        paths = self.shot_paths(directory)
        if not paths:
            return self.read(directory, prompt, seed)
        found = self._documents((self.shot_records or self.records)(paths), prompt)
        return [replace(one, id=f"shot-{one.id}", group=f"shot-{one.group or one.id}") for one in found]

    def paths(self, directory: Path | None) -> list[Path]:
        """The task's files. Raises InputError where one is missing."""
        return [file.find(directory) for file in self.files]

    def shot_paths(self, directory: Path | None) -> list[Path]:
        """The files with solved examples; empty where one is missing."""
        found = [file.find_optional(directory) for file in self.shot_files]
        return [path for path in found if path is not None] if None not in found else []

    def _documents(self, records: Iterable[Record], prompt: str) -> list[Document]:
        render = self.prompts[self.prompt_name(prompt)]
        found: dict[str, Document] = {}
        where = ""
        for record in records:
            document = render(record)
            document = document if document.id else replace(document, id=str(record.number))
            if document.id in found:
                raise InputError(f"two questions have the id {document.id!r}.", where=record.where)
            found[document.id], where = document, record.where
        if not found:
            raise InputError(f"{self.name} has no questions here.", where=where or None)
        return list(found.values())

    def prompt_name(self, prompt: str) -> str:
        """The name of a prompt, the first for an empty one. Raises RecipeError for an unknown one."""
        if prompt and prompt not in self.prompts:
            raise RecipeError(
                f"{self.name} has no prompt {prompt!r}.",
                where="evaluate.tasks",
                mend=f"Use {' or '.join(f'{self.name}.{name}' for name in self.prompts)}.",
            )
        return prompt or next(iter(self.prompts))
