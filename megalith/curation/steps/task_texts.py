"""Texts that training must not have seen: the texts of tasks, and the index of their n-grams.

The index (`ngrams.parquet`) has a row for each n-gram of each item: `task`, `item` (its id, or its line in the task's
files, from 0), `words` (its length), `hash`, `times` (it stood in the training text before anything was cut) and
`frequent` (so often that it was left there). Joined to scores by task and item it says which items had been seen.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from megalith.curation.corpus.document_table import Array
from megalith.curation.reading import open_file
from megalith.curation.steps.decontaminate import task_ngrams
from megalith.errors import InputError
from megalith.input_files import expand
from megalith.ngrams.find import Ngrams
from megalith.ngrams.sorted_sets import among
from megalith.recipe import DecontaminateConfig, TaskTextConfig

Items = Sequence[tuple[str, Sequence[str]]]
"""Each item's name and its texts."""


def task_files(config: DecontaminateConfig) -> dict[str, list[Path]]:
    """The files of each task of the recipe. Raises InputError for one that is missing."""
    found = {task: [expand(Path(path)) for path in texts.paths] for task, texts in config.tasks.items()}
    for task, paths in found.items():
        for path in paths:
            if not path.is_file():
                raise InputError("there is no such file.", where=f"curate.decontaminate.tasks.{task}: {path}")
    return found


def read_items(task: str, paths: Sequence[Path], texts: TaskTextConfig) -> Items:
    """The items of a task's files, a line each.

    Raises InputError where a file is damaged, a line is no JSON object, or the fields are nowhere.
    """
    items: list[tuple[str, Sequence[str]]] = []
    fields: set[str] = set()
    for path in paths:
        is_json = any(kind in path.name.lower() for kind in (".json", ".ndjson"))
        for number, line in enumerate(_lines(path), 1):
            found = [line.decode(errors="replace")]
            if is_json:
                one = _object(line, f"{path}, line {number}")
                fields |= set(one)
                found = [text for field in texts.fields for text in _strings(one.get(field))]
            items.append((str(len(items)), found))
    if not any(found for _, found in items):
        there = f" among {', '.join(sorted(fields))}" if fields else ""
        raise InputError(
            f"there is no text in {' or '.join(texts.fields)}{there}.",
            where=f"curate.decontaminate.tasks.{task}",
            mend="Name the fields of its texts under `fields`.",
        )
    return items


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_file(path) as file:
            yield from file
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"this file of a task cannot be read: {why}.", where=str(path)) from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    """Read the object of a line; a blank line is empty."""
    try:
        found = json.loads(line) if line.strip() else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            "this is no JSON object.", where=where, mend="Use a file with one object a line, or with one text a line."
        )
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)


def ngrams_by_task(tasks: Mapping[str, Items], config: DecontaminateConfig) -> dict[str, Ngrams]:
    """The n-grams of each task."""
    return {task: task_ngrams([text for _, texts in items for text in texts], config) for task, items in tasks.items()}


def index_table(
    tasks: Mapping[str, Items], config: DecontaminateConfig, hashes: Array, times: Array, frequent: Array
) -> pa.Table:
    """The rows of `ngrams.parquet`, given how often each of the ascending `hashes` stood in the training text."""
    labels: list[tuple[str, str, int]] = []
    rows: list[Array] = []
    for task, items in sorted(tasks.items()):
        for item, texts in items:
            for size, held in task_ngrams(texts, config).items():
                labels.append((task, item, size))
                rows.append(held)
    found = np.concatenate(rows) if rows else np.zeros(0, np.uint64)
    labelled = pa.table(
        {
            "task": pa.array([task for task, _, _ in labels], pa.string()),
            "item": pa.array([item for _, item, _ in labels], pa.string()),
            "words": pa.array([size for _, _, size in labels], pa.uint8()),
        }
    )
    labelled = labelled.take(np.repeat(np.arange(len(rows)), [len(held) for held in rows]))
    places = np.minimum(np.searchsorted(hashes, found), max(len(hashes) - 1, 0))
    stood = times[places] * (hashes[places] == found) if len(hashes) else np.zeros(len(found), np.int64)
    columns = [
        labelled["task"].dictionary_encode(),
        labelled["item"],
        labelled["words"],
        pa.array(found, pa.uint64()),
        pa.array(stood, pa.int64()),
        pa.array(among(found, frequent), pa.bool_()),
    ]
    return pa.table(columns, names=["task", "item", "words", "hash", "times", "frequent"])
