"""Encoding in parts: the same shards however they are cut and whoever encodes them, taken up where a run was killed."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact, Workspace, produce, verify
from megalith.errors import InputError, RecipeError, ResourceError
from megalith.recipe import BlendConfig, Recipe
from megalith.tokens import Shards, load_tokenizer, parts, workers
from megalith.tokens import tokenize as stage_function
from megalith.tokens.blending import shard_name
from tests.tokens.conftest import PROSE

stage = sys.modules[stage_function.__module__]

SOURCES = ("books", "web/2021", "code")
TRAIN = [(SOURCES[number % 7 % 3], f"{number}. {PROSE[number % 5] * (number % 4 + 1)}") for number in range(90)]
VALIDATION = [("books", PROSE[1] + PROSE[2]), ("web/2021", "石は重い。")]


@pytest.fixture
def corpus(tmp_path: Path) -> Artifact:
    """A curate artifact of three training files, each of three row groups."""

    def build(workspace: Workspace) -> Mapping[str, object]:
        for name, rows in [
            *((f"train/{n}", TRAIN[n * 30 : n * 30 + 30]) for n in range(3)),
            ("validation/0", VALIDATION),
        ]:
            ids = [hashlib.sha256(text.encode()).hexdigest() for _, text in rows]
            table = pa.table({"id": ids, "source": [source for source, _ in rows], "text": [text for _, text in rows]})
            with workspace.file(f"{name}.parquet") as path:
                pq.write_table(table, path, row_group_size=10)
        return {}

    return produce(tmp_path / "corpus", stage="curate", settings={}, inputs={}, seed=0, build=build)


@pytest.fixture
def blended(recipe: Recipe) -> Recipe:
    return with_blend(recipe, dict.fromkeys(SOURCES, 1.0))


def with_blend(recipe: Recipe, weights: Mapping[str, float], **more: float) -> Recipe:
    datasets = {name: {"weight": weight} for name, weight in weights.items()}
    return recipe.model_copy(update={"blend": BlendConfig.model_validate({"datasets": datasets, **more})})


def files(artifact: Artifact) -> dict[str, bytes]:
    return {output.path: (artifact.path / output.path).read_bytes() for output in artifact.manifest.outputs}


def cut_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part for each row group, and workers for any corpus."""
    monkeypatch.setattr(parts, "_PART_BYTES", 1)
    monkeypatch.setattr(stage, "_WORTH_WORKERS", 1)


def test_parts_and_workers_change_nothing(
    recipe: Recipe, corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stage_function(recipe, tmp_path / "whole", corpus, workers=1)
    cut_small(monkeypatch)
    spread = stage_function(recipe, tmp_path / "spread", corpus, workers=3)
    assert files(spread) == files(whole)
    assert spread.digest == whole.digest
    assert not list(spread.path.glob(".*"))


def test_parts_hold_every_row_group_once_and_in_order(corpus: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = sorted((corpus.path / "train").glob("*.parquet"))
    for size, count in ((1, 9), (10**9, 1)):
        monkeypatch.setattr(parts, "_PART_BYTES", size)
        cut = parts.cut_parts("train", paths, ())
        rows = [(p.file, group) for part in cut for p in part.pieces for group in range(p.first, p.after)]
        assert rows == [(str(path), group) for path in paths for group in range(3)]
        assert len(cut) == count


def test_a_run_that_is_killed_goes_on_from_the_parts_that_stand(
    blended: Recipe, corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "import os, pathlib, signal, sys\n"
        "from megalith.artifacts import open_artifact\n"
        "from megalith.recipe import Recipe\n"
        "from megalith.tokens import parts, tokenize\n"
        "parts._PART_BYTES = 1\n"
        "replace = pathlib.Path.replace\n"
        "def fatal(self, target):\n"
        "    if target.name == 'train-000004-1.idx': os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "pathlib.Path.replace = fatal\n"
        "recipe = Recipe.model_validate_json(sys.argv[1])\n"
        "tokenize(recipe, pathlib.Path(sys.argv[2]), open_artifact(pathlib.Path(sys.argv[3]), 'curate'), workers=1)\n"
    )
    words = [sys.executable, "-c", program, blended.model_dump_json(), str(tmp_path / "tokens"), str(corpus.path)]
    assert subprocess.run(words, timeout=60, check=False).returncode == -signal.SIGKILL
    cut_small(monkeypatch)
    encoded: list[str] = []
    monkeypatch.setattr(stage, "encode_part", noting(encoded, stage.encode_part))
    made = stage_function(blended, tmp_path / "tokens", corpus, workers=1)
    assert [name for name in encoded if name.startswith("train")] == [f"train-{n:06d}" for n in range(4, 9)]
    assert not any(one.damaged for one in verify(made.path))
    assert files(made) == files(stage_function(blended, tmp_path / "undisturbed", corpus, workers=1))


def noting(names: list[str], function: Callable[..., None]) -> Callable[..., None]:
    def noted(part: parts.Part, *rest: Any) -> None:
        names.append(part.name)
        function(part, *rest)

    return noted


def test_a_worker_that_dies_is_told_and_the_same_call_goes_on(
    recipe: Recipe, corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_small(monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr(workers.sys, "executable", "/bin/false")
        with pytest.raises(ResourceError, match="died"):
            stage_function(recipe, tmp_path / "tokens", corpus, workers=2)
    made = stage_function(recipe, tmp_path / "tokens", corpus, workers=1)
    assert not any(one.damaged for one in verify(made.path))


def test_what_is_wrong_with_a_file_is_told_by_the_worker_that_reads_it(
    recipe: Recipe, corpus: Artifact, tmp_path: Path
) -> None:
    stage_function(recipe, tmp_path / "tokens", corpus, workers=1)
    (part,) = parts.cut_parts("train", sorted((corpus.path / "train").glob("*.parquet")), ())
    damaged = Path(part.pieces[1].file)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read as Parquet") as caught:
        workers.encode_parts([part], tmp_path / "tokens", "tokenizers", 1, lambda part: None)
    assert caught.value.where == str(damaged)


def test_a_blend_gets_shards_of_each_data_set_in_the_order_of_its_documents(
    recipe: Recipe, blended: Recipe, corpus: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_PART_BYTES", 1500)
    made = stage_function(blended, tmp_path / "tokens", corpus, workers=1)
    plain = stage_function(recipe, tmp_path / "plain", corpus, workers=1)
    tokenizer = load_tokenizer(made.path)
    for source in SOURCES:
        shards = Shards(made.path / shard_name(source))
        wanted = [text for of, text in TRAIN if of == source]
        assert [tokenizer.decode(shards.document(n)[:-1].tolist()) for n in range(shards.documents)] == wanted
        told = {"tokens": shards.tokens, "documents": len(wanted), "bytes": len("".join(wanted).encode())}
        assert made.facts["datasets"][source] == told
    for name in ("tokenizer.json", "validation.bin", "validation.idx"):
        assert files(made)[name] == files(plain)[name]
    assert made.facts["tokens"] == plain.facts["tokens"]
    assert not (made.path / "train.bin").exists()


def test_other_shares_want_no_other_shards(recipe: Recipe, blended: Recipe, corpus: Artifact, tmp_path: Path) -> None:
    first = stage_function(blended, tmp_path / "tokens", corpus, workers=1)
    other = stage_function(with_blend(recipe, dict(zip(SOURCES, (5, 3, 2), strict=True))), tmp_path / "tokens", corpus)
    assert other.reused
    assert other.digest == first.digest


@pytest.mark.parametrize(
    ("names", "told"),
    [((*SOURCES, "news"), "no document of news"), (SOURCES[1:], "of books, which the blend does not")],
)
def test_a_blend_of_other_data_sets_is_refused_before_anything_is_encoded(
    recipe: Recipe, corpus: Artifact, tmp_path: Path, names: Sequence[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        stage_function(with_blend(recipe, dict.fromkeys(names, 1.0)), tmp_path / "tokens", corpus)
    assert not (tmp_path / "tokens").exists()


def test_too_many_epochs_are_refused_and_the_shards_stay(recipe: Recipe, corpus: Artifact, tmp_path: Path) -> None:
    greedy = with_blend(recipe, dict.fromkeys(SOURCES, 1.0), maximum_epochs=0.01)
    with pytest.raises(RecipeError, match=r"maximum_epochs is 0\.01"):
        stage_function(greedy, tmp_path / "tokens", corpus)
    milder = greedy.model_copy(update={"blend": greedy.blend.model_copy(update={"maximum_epochs": 100.0})})
    assert stage_function(milder, tmp_path / "tokens", corpus).reused
