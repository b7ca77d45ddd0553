"""The tokenize stage: train the tokenizer on the training split, then encode both splits into shards.

Parquet is read in small batches and encoded a few megabytes at a time, so memory does not grow with the corpus. Three
pieces are each whole or absent (tokenizer.json, the training shards, the validation shards): a killed run starts with
the first that is missing.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from megalith.artifacts import Artifact, Workspace, produce
from megalith.console import progress
from megalith.errors import InputError, RecipeError
from megalith.recipe import Recipe
from megalith.tokens.shards import Shards, ShardWriter
from megalith.tokens.tokenizer import BERT_TOKENS, Tokenizer, all_cores, load_tokenizer, train_tokenizer

VERSION = 1
SPLITS = ("train", "validation")
_ROWS_READ = 32  # a book may have a megabyte
_BATCH_CHARACTERS = 4_000_000


def tokenize(recipe: Recipe, path: Path, corpus: Artifact) -> Artifact:
    """Turn a curated corpus into `tokenizer.json`, `train.bin/.idx` and `validation.bin/.idx` at `path`.

    Documents keep the order of the Parquet files; each is followed by `<|endoftext|>`. The facts count tokens
    (`<|endoftext|>` included), documents and UTF-8 bytes of each split; bytes_per_token is the training split's. A
    bert's vocabulary holds [PAD], [CLS], [SEP] and [MASK] too; the shards have none of them.

    Raises InputError when a split has no documents or a file cannot be read, RecipeError when vocab_size cannot hold
    a bert's tokens.
    """
    special_tokens = _special_tokens(recipe)
    settings = {"tokenize": recipe.tokenize.model_dump(mode="json"), "version": VERSION}
    if special_tokens:  # a gpt's settings, and so its artifact, are those they were before there were berts
        settings["special_tokens"] = list(special_tokens)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        splits = {name: _open_split(corpus.path, name) for name in SPLITS}
        with all_cores():
            tokenizer = _tokenizer(workspace, splits["train"], recipe)
            shards = {name: _shards(workspace, split, tokenizer) for name, split in splits.items()}
        return {
            "tokens": {name: shards[name].tokens for name in SPLITS},
            "documents": {name: split.documents for name, split in splits.items()},
            "bytes": {name: split.bytes for name, split in splits.items()},
            "vocab_size": tokenizer.vocab_size,
            "bytes_per_token": splits["train"].bytes / shards["train"].tokens,
        }

    return produce(
        path,
        stage="tokenize",
        settings=settings,
        inputs={"corpus": corpus.digest},
        seed=recipe.seed,
        build=build,
    )


def _special_tokens(recipe: Recipe) -> Sequence[str]:
    if recipe.model.family != "bert":
        return ()
    smallest = 257 + len(BERT_TOKENS)
    if recipe.tokenize.vocab_size < smallest:
        raise RecipeError(
            f"vocab_size {recipe.tokenize.vocab_size} is too small for a bert: 256 bytes, <|endoftext|> and "
            f"{', '.join(BERT_TOKENS)} want {smallest}.",
            where="tokenize.vocab_size",
            mend=f"Give {smallest} or more, and model.vocab_size the same.",
        )
    return BERT_TOKENS


@dataclass(frozen=True)
class _Split:
    """One split of the corpus: its files in order, and what they hold."""

    name: str
    files: tuple[Path, ...]
    documents: int
    bytes: int


def _open_split(corpus: Path, name: str) -> _Split:
    files = tuple(sorted((corpus / name).glob("*.parquet")))
    documents = text_bytes = 0
    for batch in _read(files, ["text"]):
        documents += batch.num_rows
        text_bytes += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
    if text_bytes == 0:
        raise InputError(
            f"the {name} split of this corpus has no text.",
            where=str(corpus / name),
            mend="Give curation more sources or milder rules; curate.validation_share sets the split.",
        )
    return _Split(name, files, documents, text_bytes)


def _tokenizer(workspace: Workspace, split: _Split, recipe: Recipe) -> Tokenizer:
    """The tokenizer that an earlier attempt left, or a new one."""
    path = workspace.path / "tokenizer.json"
    if not path.is_file():
        with progress() as bar:
            task = bar.add_task("Training the tokenizer", total=split.documents)
            sample = _sample(split, recipe.tokenize.training_bytes, recipe.seed, lambda: bar.advance(task))
            tokenizer = train_tokenizer(sample, recipe.tokenize.vocab_size, _special_tokens(recipe))
        with workspace.file(path.name) as temporary:
            tokenizer.save(temporary)
    return load_tokenizer(path)


def _sample(split: _Split, wanted_bytes: int, seed: int, seen: Callable[[], None]) -> Iterator[str]:
    """Documents that add up to about `wanted_bytes`, each picked by a hash of its own id: in order, on any layout."""
    share = min(1.0, wanted_bytes / split.bytes)
    for batch in _read(split.files, ["id", "text"]):
        for identity, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
            if share == 1.0 or _fraction(seed, identity) < share:
                yield text
            seen()


def _fraction(seed: int, identity: str) -> float:
    """A number in [0, 1) that depends on both and on nothing else."""
    digest = hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _shards(workspace: Workspace, split: _Split, tokenizer: Tokenizer) -> Shards:
    """The shards that an earlier attempt left, or new ones. The index is put in place last: where it is, all is."""
    prefix = workspace.path / split.name
    if not prefix.with_suffix(".idx").is_file():
        with (
            workspace.file(f"{split.name}.idx") as idx_path,
            workspace.file(f"{split.name}.bin") as bin_path,
            ShardWriter(bin_path, idx_path, tokenizer.vocab_size) as writer,
            progress() as bar,
        ):
            task = bar.add_task(f"Encoding the {split.name} split", total=split.documents)
            for texts in _batches(split):
                for ids in tokenizer.encode_batch(texts):
                    writer.add([*ids, tokenizer.end_of_text])
                bar.advance(task, len(texts))
    return Shards(prefix)


def _batches(split: _Split) -> Iterator[Sequence[str]]:
    """The texts of a split, in order, a few megabytes at a time."""
    texts: list[str] = []
    characters = 0
    for batch in _read(split.files, ["text"]):
        for text in batch.column("text").to_pylist():
            texts.append(text)
            characters += len(text)
            if characters >= _BATCH_CHARACTERS:
                yield texts
                texts, characters = [], 0
    if texts:
        yield texts


def _read(files: Sequence[Path], columns: list[str]) -> Iterator[Any]:
    """Record batches of some columns. Raises InputError where a file is no Parquet, or lacks a column."""
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                lacking = [column for column in columns if column not in parquet.schema_arrow.names]
                if lacking:
                    raise InputError(f"this Parquet file has no column {lacking[0]!r}.", where=str(file))
                yield from parquet.iter_batches(_ROWS_READ, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"this file cannot be read as Parquet: {' '.join(str(error).split())}",
                where=str(file),
                mend="Run the curate stage again.",
            ) from error
