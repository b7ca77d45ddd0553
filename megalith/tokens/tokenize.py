"""The tokenize stage: train the tokenizer on the training split, then encode both splits into shards.

Parquet is read in small batches and encoded a few megabytes at a time, so memory does not grow with the corpus. Splits
are encoded in parts, on every core, and joined. Each part and each piece (tokenizer.json, the shards) is whole or
absent: a killed run goes on from the first that is missing. A recipe that blends gets training shards by data set.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.artifacts.checkpoints import described, is_checkpoint
from megalith.console import progress
from megalith.errors import InputError, RecipeError
from megalith.machine import usable_cores
from megalith.recipe import Recipe
from megalith.tokens.blending import check_blend, check_names, shard_name
from megalith.tokens.conventions import GENERATION
from megalith.tokens.encoders import EncoderName, choose_encoder, encoder
from megalith.tokens.given_tokenizer import read_tokenizer_to_train_with, tokenizer_files
from megalith.tokens.parts import (
    FOLDER,
    Part,
    Piece,
    cut_parts,
    encode_part,
    first_texts,
    join_parts,
    read_batches,
    whole_file,
)
from megalith.tokens.shards import Shards
from megalith.tokens.tokenizer import BERT_TOKENS, Tokenizer, all_cores, load_tokenizer, train_tokenizer
from megalith.tokens.workers import encode_parts

VERSION = 1
SPLITS = ("train", "validation")
_WORTH_WORKERS = 16_000_000  # bytes of text; less is encoded before a process has started
_SAMPLED_PARTS = 32  # on which a faster encoder is proved


def tokenize(recipe: Recipe, path: Path, corpus: Artifact, *, workers: int | None = None) -> Artifact:
    """Turn a curated corpus into `tokenizer.json`, `train.bin/.idx` and `validation.bin/.idx` at `path`.

    Documents keep the order of the Parquet files; each is followed by `<|endoftext|>`. The facts count tokens
    (`<|endoftext|>` included), documents and UTF-8 bytes of each split; bytes_per_token is the training split's. A
    bert's vocabulary holds [PAD], [CLS], [SEP] and [MASK] too; the shards have none of them. Where the recipe blends,
    `train-NAME.bin/.idx` take the place of `train.bin/.idx`, and the facts count each data set.

    `workers` processes encode, by default one for each core; how many they are changes nothing.

    Raises InputError when a split has no documents or a file cannot be read, RecipeError when vocab_size cannot hold
    a bert's tokens; for a blend, what `check_blend` raises.
    """
    special_tokens = _special_tokens(recipe)
    blended = bool(recipe.blend.datasets)
    settings: dict[str, Any] = {"tokenize": recipe.tokenize.model_dump(mode="json"), "version": VERSION}
    if special_tokens:  # a gpt's settings, and so its artifact, are those they were before there were berts
        settings["special_tokens"] = list(special_tokens)
    given = _given_files(recipe)
    chosen = _chosen_files(recipe)
    if chosen:
        _check_holds(recipe, read_tokenizer_to_train_with(chosen))
        settings["from"] = {file.name: file_digest(file) for file in chosen}
        settings["tokenize"].pop("from", None)
    if given:  # likewise
        settings["tokenizer"] = {file.name: file_digest(file) for file in given}
    if blended:  # likewise; the shares are the run's affair
        settings["by_dataset"] = sorted(recipe.blend.datasets)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        splits = {name: _open_split(corpus.path, name, by_dataset=blended and name == "train") for name in SPLITS}
        train = splits["train"]
        if blended:
            check_names(recipe.blend, train.datasets)
        with all_cores():
            tokenizer = _tokenizer(workspace, train, recipe)
        parts = {name: cut_parts(name, split.files, sorted(split.datasets)) for name, split in splits.items()}
        made = choose_encoder(tokenizer, first_texts(parts["train"], _SAMPLED_PARTS))
        for name, split in splits.items():
            _encode(workspace, split, parts[name], tokenizer, made, workers or usable_cores())
        tokens = {name: _count(workspace.path, split) for name, split in splits.items()}
        shutil.rmtree(workspace.path / FOLDER, ignore_errors=True)
        total = {name: sum(counts.values()) for name, counts in tokens.items()}
        facts: dict[str, Any] = {
            "tokens": total,
            "documents": {name: split.documents for name, split in splits.items()},
            "bytes": {name: split.bytes for name, split in splits.items()},
            "vocab_size": tokenizer.vocab_size,
            "bytes_per_token": train.bytes / total["train"],
            "encoder": made,
        }
        if blended:
            facts["datasets"] = {
                name: {"tokens": tokens["train"][name], "documents": documents, "bytes": size}
                for name, (documents, size) in sorted(train.datasets.items())
            }
        return facts

    made = produce(
        path,
        stage="tokenize",
        settings=settings,
        inputs={"corpus": corpus.digest},
        seed=recipe.seed,
        build=build,
    )
    if blended:  # only now are sizes known; other shares need no other shards
        sizes = {name: held["tokens"] for name, held in made.facts["datasets"].items()}
        check_blend(recipe.blend, sizes, recipe.train.tokens)
    return made


def _given_files(recipe: Recipe) -> list[Path]:
    """The tokenizer of the model that `train.from` names: its tokenizer.json, and generation.json if it has one.

    Raises InputError where it is missing.
    """
    if recipe.train.weights_from is None:
        return []
    home = Path(recipe.train.weights_from)
    if is_checkpoint(home):
        home = described(home).tokenizer
    home = home / "model" if (home / "model").is_dir() else home
    if not (home / "tokenizer.json").is_file():
        raise InputError("there is no tokenizer here.", where=str(home), mend="Set train.from to a finished model.")
    return [home / name for name in ("tokenizer.json", GENERATION) if (home / name).is_file()]


def _chosen_files(recipe: Recipe) -> tuple[Path, ...]:
    """The files that `tokenize.from` names; those of a model to begin from go before."""
    named = recipe.tokenize.tokenizer_from
    if named is None or recipe.train.weights_from is not None:
        return ()
    return tokenizer_files((named,), "tokenize.from")


def check_tokenizer(recipe: Recipe) -> None:
    """Raise the error of a tokenizer that is named and cannot be used, before anything is made."""
    if files := _chosen_files(recipe):
        _check_holds(recipe, read_tokenizer_to_train_with(files))


def _check_holds(recipe: Recipe, tokenizer: Tokenizer) -> None:
    if recipe.has_model and tokenizer.vocab_size > recipe.model.vocab_size:
        raise RecipeError(
            f"this tokenizer has {tokenizer.vocab_size:,} entries, and model.vocab_size is "
            f"{recipe.model.vocab_size:,}.",
            where="tokenize.from",
            mend=f"Set model.vocab_size={tokenizer.vocab_size}.",
        )
    if recipe.model.family == "bert" and tokenizer.special is None:
        raise RecipeError(
            f"this tokenizer lacks {', '.join(BERT_TOKENS)}, of which a BERT's samples are made.",
            where="tokenize.from",
            mend="Name one that has them, or remove tokenize.from.",
        )


def _special_tokens(recipe: Recipe) -> Sequence[str]:
    if recipe.model.family != "bert" or recipe.tokenize.tokenizer_from is not None:
        return ()
    smallest = 257 + len(BERT_TOKENS)
    if recipe.tokenize.vocab_size < smallest:
        raise RecipeError(
            f"vocab_size {recipe.tokenize.vocab_size} is too small for a bert: 256 bytes, <|endoftext|> and "
            f"{', '.join(BERT_TOKENS)} want {smallest}.",
            where="tokenize.vocab_size",
            mend=f"Set it and model.vocab_size to {smallest} or more.",
        )
    return BERT_TOKENS


@dataclass(frozen=True)
class _Split:
    """One split of the corpus: its files in order, and what they hold."""

    name: str
    files: tuple[Path, ...]
    documents: int
    bytes: int
    datasets: Mapping[str, tuple[int, int]]
    """Documents and bytes of each data set, where they are told apart."""

    @property
    def pieces(self) -> list[Piece]:
        return [whole_file(file) for file in self.files]

    @property
    def shards(self) -> list[tuple[str, str]]:
        """Data sets and the names of their shards, in the order of a part's data sets."""
        return [(name, shard_name(name)) for name in sorted(self.datasets)] or [(self.name, self.name)]


def _open_split(corpus: Path, name: str, *, by_dataset: bool = False) -> _Split:
    files = tuple(sorted((corpus / name).glob("*.parquet")))
    documents: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for batch in read_batches([whole_file(file) for file in files], ["text", "source"] if by_dataset else ["text"]):
        lengths = pc.binary_length(batch.column("text"))
        sources = batch.column("source").to_pylist() if by_dataset else [name]
        if by_dataset:
            documents.update(sources)
            for source, length in zip(sources, lengths.to_pylist(), strict=True):
                sizes[source] += length or 0
        else:
            documents[name] += batch.num_rows
            sizes[name] += pc.sum(lengths).as_py() or 0
    if not sizes.total():
        raise InputError(
            f"the {name} split of this corpus has no text.",
            where=str(corpus / name),
            mend="Use more sources or milder rules; curate.validation_share sets the split.",
        )
    datasets = {source: (documents[source], sizes[source]) for source in documents} if by_dataset else {}
    return _Split(name, files, documents.total(), sizes.total(), datasets)


def _tokenizer(workspace: Workspace, split: _Split, recipe: Recipe) -> Tokenizer:
    """The tokenizer that an earlier attempt left, that of the model to begin from, or a new one."""
    path = workspace.path / "tokenizer.json"
    for file in _given_files(recipe):
        with workspace.file(file.name) as temporary:
            shutil.copyfile(file, temporary)
    chosen = _chosen_files(recipe)
    if chosen and not path.is_file():
        tokenizer = read_tokenizer_to_train_with(chosen)
        with workspace.file(GENERATION) as temporary:
            temporary.write_text(tokenizer.conventions.model_dump_json(indent=1), encoding="utf-8")
        with workspace.file(path.name) as temporary:
            tokenizer.save(temporary)
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
    for batch in read_batches(split.pieces, ["id", "text"]):
        for identity, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True):
            if share == 1.0 or _fraction(seed, identity) < share:
                yield text
            seen()


def _fraction(seed: int, identity: str) -> float:
    """A number in [0, 1) that depends on both and on nothing else."""
    digest = hashlib.blake2b(f"{seed}:{identity}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _encode(
    workspace: Workspace, split: _Split, parts: Sequence[Part], tokenizer: Tokenizer, name: EncoderName, workers: int
) -> None:
    """Write the shards of a split that no earlier attempt left. The index is put in place last: where it is, all is."""
    folder, size = workspace.path, tokenizer.vocab_size
    missing = [
        (number, prefix) for number, (_, prefix) in enumerate(split.shards) if not (folder / f"{prefix}.idx").is_file()
    ]
    if not missing:
        return
    left = [part for part in parts if not part.mark(folder).is_file()]
    with progress() as bar:
        task = bar.add_task(f"Encoding the {split.name} split", total=len(parts), completed=len(parts) - len(left))
        if workers > 1 and len(left) > 1 and split.bytes >= _WORTH_WORKERS:
            encode_parts(left, folder, name, workers, lambda part: bar.advance(task))
        else:
            encode = encoder(name, tokenizer)
            with all_cores():
                for part in left:
                    encode_part(part, folder, encode, size)
                    bar.advance(task)
    for number, prefix in missing:
        join_parts(workspace, prefix, parts, number, size)


def _count(folder: Path, split: _Split) -> dict[str, int]:
    """Tokens by data set, or of the split."""
    return {name: Shards(folder / prefix).tokens for name, prefix in split.shards}
