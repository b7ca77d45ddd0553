"""The inputs of an evaluation: the user's task files, and the digests by which a finished one is recognised."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from megalith.artifacts import Artifact, file_digest
from megalith.errors import InputError
from megalith.inference import model_digests
from megalith.recipe.judging import Task


def named_files(task_files: Sequence[Path]) -> dict[str, Path]:
    """Return the user's task files by name. Raises InputError if one is missing or two have the same name."""
    named: dict[str, Path] = {}
    for file in task_files:
        if not file.is_file():
            raise InputError("this task file is missing.", where=str(file))
        if file.stem in named or file.stem in get_args(Task):
            raise InputError(f"another task is already called {file.stem}.", where=str(file), mend="Rename the file.")
        named[file.stem] = file
    return named


def standing_inputs(
    model: Path, tokens: Artifact | None, corpus: Artifact | None, texts: Path | None, task_files: Mapping[str, Path]
) -> dict[str, str]:
    """Return the digest of each input that the result depends on, by name."""
    digests = {f"model/{name}": digest for name, digest in model_digests(model).items()}
    if corpus is not None:
        digests["corpus"] = corpus.digest
    elif tokens is not None and texts is None:
        digests["tokens"] = tokens.digest
    if texts is not None:
        if not texts.exists():
            raise InputError("this file or directory is missing.", where=str(texts))
        files = [file for file in texts.rglob("*") if file.is_file()] if texts.is_dir() else [texts]
        digests |= {f"texts/{file.relative_to(texts.parent).as_posix()}": file_digest(file) for file in sorted(files)}
    return digests | {f"task/{name}": file_digest(file) for name, file in task_files.items()}
