"""The tokenize stage where shards stand already (`tokens.from`): they are checked once, and read where they lie.

The artifact holds the tokenizer, the digests of the shards and which documents are held out; no token is copied. Every
id is looked at: one beyond the model's vocabulary, or the tokenizer's, is refused before anything is trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from megalith.artifacts import Artifact, Workspace, file_digests, produce
from megalith.console import note, progress
from megalith.errors import InputError
from megalith.input_files import expand, real_path
from megalith.recipe import Recipe, TokensConfig
from megalith.storage import refuse_remote
from megalith.tokens.blending import check_blend, shard_name
from megalith.tokens.conventions import GENERATION, OURS
from megalith.tokens.given_tokenizer import read_given_tokenizer, tokenizer_files
from megalith.tokens.index import Index
from megalith.tokens.shards import Shards, Slice, shard_paths
from megalith.tokens.splits import SOURCES, Taken, TakenPair, TakenSlice, write_places
from megalith.tokens.tokenizer import Tokenizer

VERSION = 1
VALIDATION = "validation"
_BLOCK_TOKENS = 1 << 22
_LOOKED_AT = 1000  # documents of a pair whose last token is looked at


@dataclass(frozen=True)
class _Source:
    """A pair of shards: of a training set, or held out as it is (`dataset` is None)."""

    prefix: Path
    dataset: str | None


def take_shards(recipe: Recipe, path: Path) -> Artifact:
    """Take the shards of `tokens.from` as the tokenize artifact at `path`, without copying them.

    Of each set without `tokens.validation` the last `tokens.validation_share` of the documents is held out, at least
    one: what Megatron's --split takes. The facts are those of `tokenize`; bytes are None where the tokenizer's tokens
    do not keep all of the text.

    Raises InputError where shards or tokenizer are missing or damaged, hold an id that the model or the tokenizer does
    not have, or leave a split empty.
    """
    sources = _find(recipe.tokens)
    files = tokenizer_files(recipe.tokens.tokenizer)
    pairs = [shard_paths(source.prefix) for source in sources]
    opened = [Shards(source.prefix) for source in sources]  # refused before gigabytes are read
    digests = file_digests([*(file for pair in pairs for file in pair), *files])
    taken = Taken(
        pairs=tuple(TakenPair(bin=digests[binary], idx=digests[index]) for binary, index in pairs),
        splits=_split(sources, opened, recipe.tokens.validation_share),
    )

    def build(workspace: Workspace) -> Mapping[str, Any]:
        ending = _common_ending(opened)
        tokenizer = read_given_tokenizer(files, ending)
        _tell_ends(tokenizer, ending)
        _write_tokenizer(workspace, tokenizer)
        counts = _count(sources, taken, tokenizer, recipe.model.vocab_size)
        workspace.write_json(SOURCES, taken.model_dump(mode="json"))
        return _facts(recipe, sources, opened, taken, counts, tokenizer)

    made = produce(
        path,
        stage="tokenize",
        settings={
            "tokens": {"splits": taken.model_dump(mode="json")["splits"]},
            "vocab_size": recipe.model.vocab_size,
            "version": VERSION,
        },
        inputs={
            **{f"shards/{number}.{kind}": digest for number, pair in enumerate(taken.pairs) for kind, digest in pair},
            **{f"tokenizer/{file.name}": digests[file] for file in files},
        },
        seed=recipe.seed,
        build=build,
    )
    write_places(path, [source.prefix for source in sources])
    _check(recipe, made)
    return made


def _find(config: TokensConfig) -> list[_Source]:
    """Every pair that the recipe names, in order; a pattern's by name. Raises InputError where one names nothing."""
    found = [
        _Source(prefix, name)
        for name, sources in config.datasets.items()
        for source in sources
        for prefix in _prefixes(source.prefix, "tokens.from")
    ]
    held_out = [
        _Source(prefix, None) for named in config.validation for prefix in _prefixes(named, "tokens.validation")
    ]
    both = {real_path(source.prefix) for source in found} & {real_path(source.prefix) for source in held_out}
    if both:
        raise InputError("these shards are trained on and held out.", where=str(min(both)), mend="Name them once.")
    return found + held_out


def _prefixes(named: str, where: str) -> list[Path]:
    refuse_remote(named, what="shards are mapped from a disk, not read from a store.", mend="Copy them here first.")
    pattern = expand(Path(named), where=where)
    if not any(sign in named for sign in "*?["):
        return [pattern]
    found = sorted(pattern.parent.glob(f"{pattern.name}.idx"))
    if not found:
        raise InputError("no shards are named so.", where=named, mend="Name them without .bin or .idx.")
    return [file.with_name(file.name.removesuffix(".idx")) for file in found]


def _split(sources: Sequence[_Source], opened: Sequence[Shards], share: float) -> dict[str, tuple[TakenSlice, ...]]:
    """Which documents of which pair make up each split."""
    given = any(source.dataset is None for source in sources)
    splits: dict[str, list[TakenSlice]] = {}
    for number, (source, shards) in enumerate(zip(sources, opened, strict=True)):
        if source.dataset is None:
            splits.setdefault(VALIDATION, []).append(TakenSlice(pair=number, first=0, after=shards.documents))
            continue
        name = shard_name(source.dataset) if source.dataset else "train"
        cut = shards.documents if given else round((1 - share) * shards.documents)
        if not given and cut == shards.documents and cut > 1:
            cut -= 1
        splits.setdefault(name, []).append(TakenSlice(pair=number, first=0, after=cut))
        if not given:
            splits.setdefault(VALIDATION, []).append(TakenSlice(pair=number, first=cut, after=shards.documents))
    return {name: tuple(parts) for name, parts in sorted(splits.items())}


def _common_ending(opened: Sequence[Shards]) -> int | None:
    """The id with which all of some documents of each pair end; None where they end differently."""
    endings = set()
    for shards in opened:
        step = max(1, shards.documents // _LOOKED_AT)
        for number in range(0, shards.documents, step):
            document = shards.document(number)
            if len(document):
                endings.add(int(document[-1]))
            if len(endings) > 1:
                return None
    return endings.pop() if endings else None


def _tell_ends(tokenizer: Tokenizer, ending: int | None) -> None:
    if ending != tokenizer.end_of_text:
        note(
            f"The documents do not end with the tokenizer's end of text, id {tokenizer.end_of_text}: samples run from "
            "one into the next without a mark."
        )


def _write_tokenizer(workspace: Workspace, tokenizer: Tokenizer) -> None:
    with workspace.file("tokenizer.json") as file:
        tokenizer.save(file)
    if tokenizer.conventions != OURS:
        workspace.write_json(GENERATION, tokenizer.conventions.model_dump(mode="json"))


def _count(
    sources: Sequence[_Source], taken: Taken, tokenizer: Tokenizer, model_vocab_size: int
) -> dict[str, NDArray[np.int64]]:
    """How often each id stands in each split. Raises InputError for one that model or tokenizer does not have."""
    vocab_size = min(tokenizer.vocab_size, model_vocab_size)
    owner = f"model.vocab_size is {vocab_size}"
    if tokenizer.vocab_size <= model_vocab_size:
        owner = f"the tokenizer has {vocab_size} entries"
    counts = {name: np.zeros(vocab_size, np.int64) for name in taken.splits}
    parts = [(name, part) for name, held in taken.splits.items() for part in held]
    with progress() as bar:
        task = bar.add_task("Looking at every id", total=None)
        done = 0
        for name, part in parts:
            prefix = sources[part.pair].prefix
            stream = Shards(Slice(prefix, part.first, part.after)).stream
            for first in range(0, len(stream), _BLOCK_TOKENS):
                block = stream[first : first + _BLOCK_TOKENS]
                if block.min() < 0 or block.max() >= vocab_size:
                    place = first + int(np.argmax((block < 0) | (block >= vocab_size)))
                    _refuse_id(prefix, part.first, place, int(stream[place : place + 1][0]), owner)
                counts[name] += np.bincount(block, minlength=vocab_size)
                done += len(block)
                bar.update(task, completed=done)
    return counts


def _refuse_id(prefix: Path, first_document: int, place: int, number: int, owner: str) -> None:
    bin_path, idx_path = shard_paths(prefix)
    index = Index(idx_path)
    place += index.begins(first_document)
    raise InputError(
        f"token {place} of this file (in document {index.find(place)}) is {number}, and {owner}.",
        where=str(bin_path),
        mend="Name the tokenizer that these shards were made with, and set model.vocab_size to its size or more.",
    )


def _facts(
    recipe: Recipe,
    sources: Sequence[_Source],
    opened: Sequence[Shards],
    taken: Taken,
    counts: Mapping[str, NDArray[np.int64]],
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    lengths = None
    if tokenizer.token_bytes is not None:
        lengths = np.array([len(one) for one in tokenizer.token_bytes], np.int64)[: len(counts[VALIDATION])]
        lengths[tokenizer.end_of_text] = 0
    documents = {name: sum(part.after - part.first for part in parts) for name, parts in taken.splits.items()}
    tokens = {name: int(held.sum()) for name, held in counts.items()}
    sizes = {name: None if lengths is None else int(held[: len(lengths)] @ lengths) for name, held in counts.items()}

    def both(values: Mapping[str, Any]) -> dict[str, Any]:
        train = [value for name, value in values.items() if name != VALIDATION]
        return {"train": None if None in train else sum(train), "validation": values[VALIDATION]}

    facts: dict[str, Any] = {
        "tokens": both(tokens),
        "documents": both(documents),
        "bytes": both(sizes),
        "vocab_size": tokenizer.vocab_size,
        "sources": [
            {"prefix": str(source.prefix), "documents": shards.documents, "tokens": shards.tokens}
            for source, shards in zip(sources, opened, strict=True)
        ],
    }
    train, size = facts["tokens"]["train"], facts["bytes"]["train"]
    facts["bytes_per_token"] = size / train if train and size is not None else None
    names = [name for name in recipe.tokens.datasets if name]
    if names:
        facts["datasets"] = {
            name: {
                "tokens": tokens[shard_name(name)],
                "documents": documents[shard_name(name)],
                "bytes": sizes[shard_name(name)],
            }
            for name in names
        }
    return facts


def _check(recipe: Recipe, made: Artifact) -> None:
    """That both splits have something to predict, and that the shares can be read."""
    for split, tokens in made.facts["tokens"].items():
        if tokens < 2:
            raise InputError(
                f"the {split} split of these shards holds {tokens} tokens: there is nothing to predict.",
                where="tokens.from" if split == "train" else "tokens.validation_share",
                mend="Name more shards, or set tokens.validation.",
            )
    if recipe.mixture.datasets:
        sizes = {name: held["tokens"] for name, held in made.facts["datasets"].items()}
        check_blend(recipe.mixture, sizes, recipe.train.tokens)
