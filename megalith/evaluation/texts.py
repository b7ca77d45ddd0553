"""Held-out documents for perplexity, from a curated corpus, token shards, or the user's files."""

import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from megalith.artifacts import Artifact
from megalith.errors import InputError
from megalith.inference import LanguageModel, keyed_hash
from megalith.input_files import parse_json
from megalith.tokens import open_split


@dataclass(frozen=True)
class Text:
    """One document."""

    id: str
    text: str


def held_out(
    lm: LanguageModel, own: Path | None, corpus: Artifact | None, tokens: Artifact | None, most: int | None, seed: int
) -> list[Text]:
    """Draw at most `most` documents by a hash of their ids, from the user's texts or the validation split.

    Without a corpus the validation shards are decoded. Empty documents are skipped.
    """
    count = sys.maxsize // 4 if most is None else most
    if own is not None:
        found = _own(own)
    elif corpus is not None:
        found = _corpus(corpus.path)
    elif tokens is not None:
        return _shards(lm, tokens.path, count, seed)
    else:
        found = iter(())
    ranked: list[tuple[int, Text]] = []
    for text in found:
        if text.text:
            ranked.append((keyed_hash(seed, text.id), text))
            if len(ranked) > 4 * count:  # a large split is never held in memory
                ranked = _first(ranked, count)
    return [text for _, text in _first(ranked, count)]


def _first(ranked: list[tuple[int, Text]], count: int) -> list[tuple[int, Text]]:
    return sorted(ranked, key=lambda entry: (entry[0], entry[1].id))[:count]


def _own(path: Path) -> Iterator[Text]:
    """Read JSON lines with `text`, a text file, or a directory of text files; each text file is a document."""
    if not path.exists():
        raise InputError("this file or directory is missing.", where=str(path))
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError("this is not UTF-8 text.", where=str(file)) from error
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if file.suffix == ".jsonl":
            yield from _json_lines(name, text, file)
        else:
            yield Text(name, text)


def _json_lines(name: str, text: str, file: Path) -> Iterator[Text]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Text(f"{name}:{number}", str(parse_json(line, where=f"{file}, line {number}")["text"]))
        except (KeyError, TypeError) as error:
            raise InputError("this is not a JSON object with a `text`.", where=f"{file}, line {number}") from error


def _corpus(directory: Path) -> Iterator[Text]:
    for file in sorted((directory / "validation").glob("*.parquet")):
        try:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(256, columns=["id", "text"]):
                    for row in batch.to_pylist():
                        yield Text(row["id"], row["text"])
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(
                "this is not a curated Parquet file, or it is damaged.", where=str(file), mend="Curate again."
            ) from error


def _shards(lm: LanguageModel, directory: Path, count: int, seed: int) -> list[Text]:
    """The drawn documents of the validation shards: no others are decoded, of however many there are."""
    shards = open_split(directory, "validation")
    count = min(count, shards.documents)
    for looked_at in (4 * count, shards.documents):  # at all only where most are empty
        keyed = ((keyed_hash(seed, str(number)), str(number)) for number in range(shards.documents))
        drawn: list[Text] = []
        for _, name in heapq.nsmallest(looked_at, keyed):
            ids = [int(token) for token in shards.document(int(name)) if token != lm.tokenizer.end_of_text]
            if len(drawn) < count and (text := lm.tokenizer.decode(ids)):
                drawn.append(Text(name, text))
        if len(drawn) == count:
            break
    return drawn
