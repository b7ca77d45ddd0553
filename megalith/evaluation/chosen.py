"""The tasks that a recipe names: those of the project, those cut from the corpus, and files of the user's own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megalith.artifacts import Artifact, file_digest
from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.formats import data_directory
from megalith.evaluation.own_task import own_task
from megalith.evaluation.plain_task import plain_task
from megalith.evaluation.task import Task
from megalith.evaluation.tasks import TASKS, task
from megalith.input_files import expand
from megalith.recipe import EvaluateConfig

PERPLEXITY = "perplexity"
FROM_CORPUS = {"last_word": "last_word", "continuation": "choice"}
"""Tasks that curation cuts from held-out text, and their kind."""
_SUFFIXES = (".yaml", ".yml", ".jsonl")


@dataclass(frozen=True)
class Chosen:
    """One task of the recipe in one wording."""

    name: str
    """As the rows name it: boolq, boolq.gpt3, or the name of the user's file."""
    kind: str
    task: Task | None
    """None for held-out documents, and for a task of the corpus where there is none."""
    prompt: str = ""
    directory: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    """The files that the result depends on, by the name of the input."""

    def documents(self, seed: int) -> list[Document]:
        """All questions; none without a corpus."""
        return self.task.read(self.directory, self.prompt, seed) if self.task else []

    def pool(self, documents: list[Document], seed: int) -> list[Document]:
        """The solved examples: of files of their own, or the questions."""
        if self.task is None or not self.task.shot_paths(self.directory):
            return documents
        return self.task.pool(self.directory, self.prompt, seed)

    @property
    def digest(self) -> str | None:
        """One digest of the task's files; None for a task that is made on the spot."""
        if not self.files:
            return None
        told = {name: file_digest(path) for name, path in self.files.items()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def chosen_tasks(config: EvaluateConfig, corpus: Artifact | None) -> list[Chosen]:
    """The tasks of the recipe in its order.

    Raises RecipeError for a name or wording that is unknown, InputError for a missing or wrong file and for two tasks
    of one name.
    """
    named = list(dict.fromkeys(config.tasks))
    official = [name for name in named if not _is_file(name) and name not in (PERPLEXITY, *FROM_CORPUS)]
    directory = data_directory(config.data, "evaluate.data") if official else None
    found: dict[str, Chosen] = {}
    for name in named:
        one = _chosen(name, directory, corpus)
        if one.name in found or (_is_file(name) and one.name in (PERPLEXITY, *FROM_CORPUS, *TASKS)):
            raise InputError(f"another task is already called {one.name}.", where=name, mend="Rename the file.")
        found[one.name] = one
    return list(found.values())


def template_digest(documents: Sequence[Document]) -> str:
    """One digest of all questions as they are asked without solved examples."""
    told = hashlib.sha256()
    for one in documents:
        choices = [(choice.context, choice.continuation) for choice in one.choices]
        told.update(repr((one.id, one.preamble, one.prompt, choices, one.gold, one.answers, one.solved)).encode())
    return told.hexdigest()


def _chosen(name: str, directory: Path | None, corpus: Artifact | None) -> Chosen:
    if name == PERPLEXITY:
        return Chosen(name, "perplexity", None)
    if name in FROM_CORPUS:
        path = corpus.path / "tasks" / f"{name}.jsonl" if corpus else None
        there = path is not None and path.is_file() and path.stat().st_size > 0
        made = plain_task(name, path, "cut from held-out text") if path is not None and there else None
        return Chosen(name, FROM_CORPUS[name], made)
    if _is_file(name):
        path = expand(Path(name), where="evaluate.tasks")
        if not path.is_file():
            raise InputError("this task file is missing.", where=str(path))
        own = own_task(path)
        return _with_files(own.name, own, "", None, {f"task/{own.name}/{path.name}": path})
    base, _, prompt = name.partition(".")
    known = task(name if name in TASKS else base)
    known.prompt_name(prompt)
    return _with_files(name, known, prompt, directory, {})


def _with_files(name: str, known: Task, prompt: str, directory: Path | None, files: Mapping[str, Path]) -> Chosen:
    paths = [*known.paths(directory), *known.shot_paths(directory)]
    inner = [
        file
        for path in dict.fromkeys(paths)
        for file in (sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path])
    ]
    said = {f"task/{known.name}/{path.name}": path for path in inner}
    return Chosen(name, known.kind, known, prompt, directory, {**said, **files})


def _is_file(name: str) -> bool:
    return name.endswith(_SUFFIXES) or "/" in name
