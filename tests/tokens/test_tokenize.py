"""The stage: from Parquet to shards, the same however often it is cut short."""

import json
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from megalith.artifacts import Artifact, verify
from megalith.errors import InputError, RecipeError
from megalith.recipe import Recipe
from megalith.tokens import Shards, Tokenizer, load_tokenizer, parts, tokenize
from megalith.tokens import tokenize as stage_function
from tests.tokens.conftest import PROSE, VOCAB_SIZE, WriteCorpus

stage = sys.modules[stage_function.__module__]

TRAIN = [
    [PROSE[0] * 3, PROSE[1], "", PROSE[2]],
    *[[f"{number} {PROSE[number % 4]}" for number in range(ten, ten + 10)] for ten in range(0, 70, 10)],
]
VALIDATION = [[PROSE[1] + PROSE[2], "石は重い。"]]


@pytest.fixture
def corpus(write_corpus: WriteCorpus) -> Artifact:
    return write_corpus({"train": TRAIN, "validation": VALIDATION})


def files(artifact: Artifact) -> dict[str, bytes]:
    return {output.path: (artifact.path / output.path).read_bytes() for output in artifact.manifest.outputs}


def test_the_shards_hold_every_document_in_order_each_followed_by_end_of_text(
    recipe: Recipe, corpus: Artifact, tmp_path: Path
) -> None:
    made = tokenize(recipe, tmp_path / "tokens", corpus)
    tokenizer = load_tokenizer(made.path)
    for split, texts in (("train", list(chain(*TRAIN))), ("validation", VALIDATION[0])):
        shards = Shards(made.path / split)
        documents = [shards.document(number).tolist() for number in range(shards.documents)]
        assert [ids[-1] for ids in documents] == [0] * len(texts)
        assert [tokenizer.decode(ids[:-1]) for ids in documents] == texts
        assert 0 not in chain(*[ids[:-1] for ids in documents])


def test_the_facts_are_those_of_the_files(recipe: Recipe, corpus: Artifact, tmp_path: Path) -> None:
    made = tokenize(recipe, tmp_path / "tokens", corpus)
    texts = {"train": list(chain(*TRAIN)), "validation": VALIDATION[0]}
    tokens = {split: Shards(made.path / split).tokens for split in texts}
    text_bytes = {split: len("".join(texts[split]).encode()) for split in texts}
    assert made.facts == {
        "tokens": tokens,
        "documents": {split: len(texts[split]) for split in texts},
        "bytes": text_bytes,
        "vocab_size": load_tokenizer(made.path).vocab_size,
        "bytes_per_token": text_bytes["train"] / tokens["train"],
        "encoder": "tokenizers",
    }
    assert made.facts["vocab_size"] == VOCAB_SIZE
    assert sorted(files(made)) == ["tokenizer.json", "train.bin", "train.idx", "validation.bin", "validation.idx"]


def test_two_runs_give_the_same_files_to_the_byte_and_a_third_is_not_needed(
    recipe: Recipe, corpus: Artifact, tmp_path: Path
) -> None:
    one, other = (tokenize(recipe, tmp_path / name, corpus) for name in ("one", "other"))
    assert files(one) == files(other)
    assert one.digest == other.digest
    assert tokenize(recipe, tmp_path / "one", corpus).reused


def test_how_the_documents_are_spread_over_files_and_batches_changes_nothing(
    recipe: Recipe, corpus: Artifact, write_corpus: WriteCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tokenize(recipe, tmp_path / "plain", corpus)
    monkeypatch.setattr(parts, "_ROWS_READ", 3)
    monkeypatch.setattr(parts, "_BATCH_CHARACTERS", 200)
    other = write_corpus({"train": [list(chain(*TRAIN))], "validation": [[text] for text in VALIDATION[0]]}, "other")
    assert files(tokenize(recipe, tmp_path / "spread", other)) == files(plain)


def test_the_tokenizer_learns_from_the_training_split_alone(
    recipe: Recipe, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    held_out = ["abracadabra " * 200]
    made = tokenize(recipe, tmp_path / "tokens", write_corpus({"train": TRAIN, "validation": [held_out]}))
    assert not [entry for entry in _vocabulary(made) if "abra" in entry]


def test_the_sample_has_about_the_bytes_asked_for_and_depends_on_the_seed(
    recipe: Recipe, write_corpus: WriteCorpus
) -> None:
    texts = [f"Document {number} says {number * number}." for number in range(4000)]
    corpus = write_corpus({"train": [texts], "validation": VALIDATION})
    split = stage._open_split(corpus.path, "train")
    seen: list[None] = []
    sample = list(stage._sample(split, split.bytes // 4, 1, lambda: seen.append(None)))
    assert len(seen) == len(texts)
    assert 0.22 < sum(map(len, sample)) / split.bytes < 0.28  # 4 standard errors of a binomial share
    assert sample == [text for text in texts if text in set(sample)]
    assert sample != list(stage._sample(split, split.bytes // 4, 2, lambda: None))
    assert list(stage._sample(split, split.bytes, 1, lambda: None)) == texts


STAGES = ["tokenizer.json", "train.bin", "train.idx", "validation.bin", "validation.idx"]


@pytest.mark.parametrize("piece", STAGES)
def test_a_run_killed_before_any_piece_stands_goes_on_from_the_pieces_that_do(
    recipe: Recipe, corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from megalith.artifacts import open_artifact\n"
        "from megalith.recipe import Recipe\n"
        "from megalith.tokens import tokenize\n"
        "replace = pathlib.Path.replace\n"
        "def fatal(self, target):\n"
        "    if target.name == sys.argv[4]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = fatal\n"
        "recipe = Recipe.model_validate_json(sys.argv[1])\n"
        "tokenize(recipe, pathlib.Path(sys.argv[2]), open_artifact(pathlib.Path(sys.argv[3]), 'curate'))\n"
    )
    target = tmp_path / "tokens"
    words = [sys.executable, "-c", program, recipe.model_dump_json(), str(target), str(corpus.path), piece]
    assert subprocess.run(words, timeout=60, check=False).returncode == -signal.SIGKILL
    whole = {file.name: file.stat().st_mtime_ns for file in (tmp_path / ".tokens.partial").glob("[!.]*")}
    assert sorted(whole) == sorted(STAGES[: STAGES.index(piece)])
    made = tokenize(recipe, target, corpus)
    assert not any(one.damaged for one in verify(made.path))
    assert files(made) == files(tokenize(recipe, tmp_path / "undisturbed", corpus))
    kept = whole if piece != "train.idx" and piece != "validation.idx" else whole.keys() - {piece.replace("idx", "bin")}
    assert {name: (target / name).stat().st_mtime_ns for name in kept} == {name: whole[name] for name in kept}


def test_a_document_of_a_megabyte_is_encoded_as_its_whole(
    recipe: Recipe, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    book = "".join(f"{number}. {PROSE[number % 4]}" for number in range(12_000))
    assert len(book) > 1_000_000
    made = tokenize(recipe, tmp_path / "tokens", write_corpus({"train": [[book]], "validation": VALIDATION}))
    tokenizer: Tokenizer = load_tokenizer(made.path)
    assert Shards(made.path / "train").document(0).tolist() == [*tokenizer._model.encode(book).ids, 0]


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("parts", [[], [[]], [[""]]])
def test_a_split_without_text_is_refused(
    recipe: Recipe, write_corpus: WriteCorpus, tmp_path: Path, split: str, parts: list[list[str]]
) -> None:
    corpus = write_corpus({"train": TRAIN, "validation": VALIDATION, split: parts})
    with pytest.raises(InputError, match=f"the {split} split of this corpus has no text") as caught:
        tokenize(recipe, tmp_path / "tokens", corpus)
    assert caught.value.mend is not None
    assert not (tmp_path / "tokens").exists()


def test_a_damaged_parquet_file_is_refused_by_name(recipe: Recipe, corpus: Artifact, tmp_path: Path) -> None:
    damaged = corpus.path / "train" / "part-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet") as caught:
        tokenize(recipe, tmp_path / "tokens", corpus)
    assert caught.value.where == str(damaged)


def bert(recipe: Recipe) -> Recipe:
    whole = recipe.model_dump()
    return Recipe.model_validate({**whole, "model": {**whole["model"], "family": "bert"}})


def test_a_bert_gets_its_special_tokens_and_a_gpt_does_not(recipe: Recipe, corpus: Artifact, tmp_path: Path) -> None:
    made = {
        family.model.family: tokenize(family, tmp_path / family.model.family, corpus)
        for family in (recipe, bert(recipe))
    }
    special = load_tokenizer(made["bert"].path).special
    assert load_tokenizer(made["gpt"].path).special is None
    assert special is not None
    assert special.ids == (0, 1, 2, 3, 4)
    assert made["bert"].facts["vocab_size"] == made["gpt"].facts["vocab_size"] == VOCAB_SIZE
    assert made["bert"].manifest.key != made["gpt"].manifest.key
    stream = Shards(made["bert"].path / "train").stream
    assert not np.isin(stream[:], special.ids[1:]).any()


def test_a_vocabulary_that_cannot_hold_a_berts_tokens_is_refused(
    recipe: Recipe, corpus: Artifact, tmp_path: Path
) -> None:
    whole = bert(recipe).model_dump()
    whole["tokenize"]["vocab_size"] = whole["model"]["vocab_size"] = 260
    with pytest.raises(RecipeError, match="want 261") as caught:
        tokenize(Recipe.model_validate(whole), tmp_path / "tokens", corpus)
    assert caught.value.where == "tokenize.vocab_size"


def _vocabulary(artifact: Artifact) -> dict[str, int]:
    vocabulary: dict[str, int] = json.loads((artifact.path / "tokenizer.json").read_text())["model"]["vocab"]
    return vocabulary
