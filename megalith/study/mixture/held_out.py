"""The tokens of proxy runs: the training shards as they stand, and held-out documents of each data set by itself.

As many tokens of each data set are held out as asked for, in documents that are drawn by a hash of their place, each
cut after a part of that, so that one book does not stand for all. Their sum is the validation split of the proxies.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, open_artifact, produce
from megalith.errors import InputError
from megalith.inference import keyed_hash, load_model
from megalith.tokens import GENERATION, Shards, ValidationWindows, load_tokenizer, open_split, write_shards
from megalith.tokens.blending import shard_name
from megalith.tokens.parts import read_batches, whole_file

PROXY_TOKENS = "proxy-tokens"
_DOCUMENTS = 16  # of which at least a held-out sample is made, where there are as many
_TOGETHER = 16  # windows of one pass


def proxy_tokens(directory: Path, names: tuple[str, ...], most: int, sequence_length: int, seed: int) -> Artifact:
    """The `tokenize` artifact of the proxies beside that of the search; its facts count `held_out` tokens by name.

    Raises InputError where a data set has no held-out document.
    """
    corpus = open_artifact(directory / "curate", "curate", check=False)
    tokens = open_artifact(directory / "tokenize", "tokenize", check=False)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        for file in sorted(tokens.path.iterdir()):
            wanted = file.name.startswith("train-") or file.name in ("tokenizer.json", GENERATION)
            if wanted and not (workspace.path / file.name).exists():
                with workspace.file(file.name) as made:
                    _link(file, made)
        vocabulary = int(tokens.facts["vocab_size"])
        pieces = {
            name: list(_pieces(tokens.path, places, most, sequence_length, seed))
            for name, places in _places(corpus.path, tokens.path, names).items()
        }
        counts = {}
        for name, documents in pieces.items():
            counts[name] = write_shards(workspace.path / held_out_name(name), documents, vocabulary).tokens
        write_shards(workspace.path / "validation", [one for own in pieces.values() for one in own], vocabulary)
        return {
            **tokens.facts,
            "tokens": {"train": tokens.facts["tokens"]["train"], "validation": sum(counts.values())},
            "held_out": counts,
        }

    return produce(
        directory / PROXY_TOKENS,
        stage="tokenize",
        settings={"held_out_tokens": most, "each": _longest(most, sequence_length), "names": list(names)},
        inputs={"tokens": tokens.digest, "corpus": corpus.digest},
        seed=seed,
        build=build,
    )


def held_out_name(dataset: str) -> str:
    """The prefix of a data set's held-out shards."""
    return shard_name(dataset).replace("train-", "held-out-", 1)


def held_out_losses(model: Path, tokens: Path, names: tuple[str, ...], *, document_mask: bool) -> dict[str, float]:
    """Nats per token of a finished model on the held-out documents of each data set."""
    import torch

    from megalith.training.data import CausalSamples

    lm = load_model(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = lm.model.to(device)
    begins = load_tokenizer(tokens).end_of_text if document_mask else None
    found = {}
    for name in names:
        windows = ValidationWindows(Shards(tokens / held_out_name(name)).stream, lm.config.sequence_length)
        samples = CausalSamples(windows, begins)
        nats = 0.0
        with torch.inference_mode():
            for first in range(0, len(windows), _TOGETHER):
                batch = {key: value.to(device) for key, value in samples.batch(first, _TOGETHER).items()}
                nats += float(network(batch["tokens"], batch["targets"], batch.get("document_starts"))[0])
        found[name] = nats / windows.targets
    return found


def _places(corpus: Path, tokens: Path, names: tuple[str, ...]) -> dict[str, list[int]]:
    """The numbers of each data set's documents in the validation split. Raises InputError where it has none."""
    files = sorted((corpus / "validation").glob("*.parquet"))
    sources = [
        source
        for batch in read_batches([whole_file(file) for file in files], ["source"])
        for source in batch.column("source").to_pylist()
    ]
    documents = open_split(tokens, "validation").documents
    if len(sources) != documents:
        raise InputError(
            f"the corpus holds out {len(sources):,} documents, and its shards have {documents:,}.",
            where=str(tokens),
            mend="Tokenize this corpus again.",
        )
    found: dict[str, list[int]] = {name: [] for name in names}
    for number, source in enumerate(sources):
        found[source].append(number)
    for name, places in found.items():
        if not places:
            raise InputError(
                f"no document of {name} is held out, so that its loss cannot be measured.",
                where=f"curate.datasets.{name}",
                mend="Raise curate.validation_share, or use more text.",
            )
    return found


def _pieces(tokens: Path, places: list[int], most: int, sequence_length: int, seed: int) -> Iterator[list[int]]:
    """The beginnings of documents, at most `most` tokens in all."""
    shards = open_split(tokens, "validation")
    each = _longest(most, sequence_length)
    left = most
    for place in sorted(places, key=lambda place: keyed_hash(seed, str(place))):
        piece: list[int] = shards.document(place)[: min(each, left)].tolist()
        yield piece
        left -= len(piece)
        if left < 2:
            return


def _longest(most: int, sequence_length: int) -> int:
    return max(sequence_length, most // _DOCUMENTS)


def _link(file: Path, to: Path) -> None:
    """The same bytes under another name; copied where the two are on different file systems."""
    to.unlink(missing_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
