"""Documents that say the same in other words are found by their embeddings, and one of each group is kept."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from megalith.artifacts import read_manifest
from megalith.curation import curate
from megalith.curation.embeddings import EmbedPiece
from megalith.curation.semantic import LinkClusters
from megalith.curation.steps.semantic import assign, link, train
from megalith.errors import InputError
from megalith.recipe import Recipe
from megalith.report import write_card

WORDS = [f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "lmnrst"]
SYNONYMS = {word: word[::-1] for word in WORDS}


class Letters:
    """Embeds a text by its meanings: the counts of words and of their synonyms, which are those words backwards."""

    digests: Mapping[str, str] = {"letters": "1"}
    width = 64
    opened = 0

    def embed(self, texts: list[str], tokens: int) -> Any:
        made = np.zeros((len(texts), self.width), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", " ").split()[:tokens]:
                made[row, sum(map(ord, min(word, word[::-1]))) * 7919 % self.width] += 1
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def open_letters(path: Path) -> Letters:
    if path.read_text() != "letters":
        raise InputError("this is not a model.", where=str(path))
    return Letters()


def _vectors(count: int, width: int, seed: int, spread: float = 1.0) -> np.ndarray:
    draws = np.random.default_rng(seed)
    made = draws.normal(size=(count, width)) + 3 * spread * draws.normal(size=(1, width))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)


def _components(points: np.ndarray, threshold: float) -> list[int]:
    """The first point of each one's component, by looking at every pair again and again."""
    wide = points.astype(np.float32)
    near = wide @ wide.T >= np.float32(threshold)
    roots = list(range(len(points)))
    changed = True
    while changed:
        changed = False
        for one, other in zip(*np.nonzero(near), strict=True):
            least = min(roots[one], roots[other])
            changed |= roots[one] != least or roots[other] != least
            roots[one] = roots[other] = least
    return roots


def test_points_are_joined_at_every_threshold_as_by_looking_at_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megalith.curation.steps.semantic.components.BLOCK", 32)
    points = _vectors(150, 8, 1, 0.5)
    thresholds = np.array([0.8, 0.9, 0.95, 0.97])
    found = link(len(points), lambda first, last: points[first:last], thresholds, 0.95)
    for level, threshold in enumerate(thresholds):
        assert found.roots[level].tolist() == _components(points, threshold)
    assert len({len(set(level.tolist())) for level in found.roots}) == 4
    wide = points.astype(np.float32)
    cosines = (wide @ wide.T)[np.triu_indices(len(points), 1)]
    above, below = np.sort(cosines[cosines >= 0.95]), np.sort(cosines[cosines < 0.95])
    assert [pair[0] for pair in found.pairs] == pytest.approx([*above[:2], *below[::-1][:2]], abs=1e-6)
    assert all(float(wide[one] @ wide[other]) == pytest.approx(cosine, abs=1e-6) for cosine, one, other in found.pairs)


def test_centroids_are_those_of_planted_clusters() -> None:
    draws = np.random.default_rng(3)
    centres = np.linalg.qr(draws.normal(size=(32, 32)))[0][:5]
    points = np.repeat(centres, 60, axis=0) + 0.05 * draws.normal(size=(300, 32))
    points = (points / np.linalg.norm(points, axis=1, keepdims=True))[draws.permutation(300)].astype(np.float16)
    centroids = train(points, 5)
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    nearest, cosines = assign(points, centroids)
    assert sorted(np.bincount(nearest).tolist()) == [60] * 5
    assert (centroids @ centres.T).max(axis=1) == pytest.approx(np.ones(5), abs=0.01)
    assert cosines == pytest.approx((points.astype(np.float32) @ centroids.T).max(axis=1), abs=1e-5)


def _prose(draws: random.Random, words: int = 90) -> str:
    few = draws.sample(WORDS, 25)  # what it is about
    return " ".join(f"{' '.join(draws.choices(few, k=9))}." for _ in range(words // 9))


def _in_other_words(text: str, draws: random.Random) -> str:
    """The same sentences in another order, four words of ten by their synonyms, one by something else."""
    sentences = text.split(". ")
    draws.shuffle(sentences)

    def said(word: str) -> str:
        chance = draws.random()
        return SYNONYMS[word] if chance < 0.4 else draws.choice(WORDS) if chance < 0.5 else word

    return " ".join(f"{' '.join(map(said, one.rstrip('.').split()))}." for one in sentences)


def _corpus(folder: Path, files: int = 1) -> int:
    """Eighty documents and a paraphrase of each of the first twenty. Returns how many are paraphrases."""
    draws = random.Random(5)
    texts = [_prose(draws) for _ in range(80)]
    texts += [_in_other_words(text, draws) for text in texts[:20]]
    folder.mkdir()
    for number in range(files):
        lines = [
            json.dumps({"text": text, "url": f"http://a.example/{place:04d}"})
            for place, text in enumerate(texts)
            if place % files == number
        ]
        (folder / f"{number}.jsonl").write_text("\n".join(lines))
    return 20


def _recipe(folder: Path, **curation: Any) -> Recipe:
    (folder / "letters").write_text("letters")
    semantic = {"model": str(folder / "letters"), "threshold": 0.9, "clusters": 4} | curation.pop("semantic", {})
    return Recipe.model_validate(
        {
            "name": "semantic",
            "about": "semantic",
            "model": {"sequence_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 600},
            "tokenize": {"vocab_size": 600},
            "train": {"tokens": 100000},
            "curate": {
                "languages": [],
                "heuristics": {"preset": "none"},
                "task_items": {"most": 0},
                "validation_share": 0.2,
                "semantic": semantic,
                **curation,
            },
        }
    )


def _kept(path: Path) -> set[str]:
    files = [file for split in ("train", "validation") for file in (path / split).glob("*.parquet")]
    return {url for file in files for url in pq.read_table(file)["url"].to_pylist()}


def _number(url: str) -> int:
    return int(url.rsplit("/", 1)[1])


def test_paraphrases_that_no_shingle_shows_are_dropped_and_told(tmp_path: Path) -> None:
    planted = _corpus(tmp_path / "in")
    recipe = _recipe(tmp_path, keep_dropped=True)
    made = curate(recipe, tmp_path / "curate", [tmp_path / "in"], open_embedder=open_letters)
    steps = {line["name"]: line for line in made.facts["steps"]}
    assert steps["minhash"]["dropped"] == {}
    assert steps["semantic"]["dropped"] == {"semantic duplicate": planted}
    left = {_number(url) for url in _kept(made.path)}
    assert len(left) == 80
    assert all((number in left) != (number + 80 in left) for number in range(planted))
    dropped = pq.read_table(made.path / "logs" / "dropped" / "semantic.parquet").to_pylist()
    ids = {row["id"] for row in dropped}
    assert len(ids) == planted and all(row["kept"] and row["kept"] not in ids for row in dropped)
    told = json.loads((made.path / "details.json").read_text())["semantic"]
    by_threshold = {one["threshold"]: one["documents"] for one in told["thresholds"]}
    assert len(by_threshold) == 20 and by_threshold[0.9] == planted and told["documents"] == 100
    counts = [by_threshold[level] for level in sorted(by_threshold)]
    assert counts == sorted(counts, reverse=True) and counts[-1] < planted
    cosines = [pair["cosine"] for pair in told["pairs"]]
    assert min(cosines[:2]) >= 0.9 > max(cosines[2:])
    assert [pair["duplicates"] for pair in told["pairs"]] == [True, True, False, False]
    assert all(len(pair["documents"]) == 2 for pair in told["pairs"])
    card = write_card(made.path)
    page, text = ((card / name).read_text() for name in ("card.html", "card.md"))
    chosen = f"{planted / 100:.2%}".replace("%", "")
    for said in (page, text):
        assert said.count("Duplicates by meaning") == 1 and chosen in said
        assert all(f"{cosine:.4f}" in said.replace("\\", "") for cosine in cosines)
    facts = read_manifest(tmp_path / "curate-semantic").facts
    assert facts == {"documents": 100, "width": 64}
    assert (tmp_path / "curate-semantic" / "embeddings.f16").stat().st_size == 100 * 64 * 2


def test_without_a_model_nothing_changes(tmp_path: Path) -> None:
    _corpus(tmp_path / "in")
    off = _recipe(tmp_path, semantic={"model": None})
    made = curate(off, tmp_path / "curate", [tmp_path / "in"])
    assert "semantic" not in read_manifest(made.path).settings.keys() | read_manifest(made.path).settings["curate"]
    assert not any("semantic" in name for name in read_manifest(made.path).inputs)
    assert "semantic" not in json.loads((made.path / "details.json").read_text())
    assert "semantic" not in {line["name"] for line in made.facts["steps"]}
    assert not (tmp_path / "curate-semantic").exists()


@pytest.mark.parametrize("keep", ["hard", "easy", "first"])
def test_the_copy_of_the_first_data_set_is_kept_and_of_an_earlier_artifact_before_all(
    tmp_path: Path, keep: str
) -> None:
    _corpus(tmp_path / "in")
    lines = (tmp_path / "in" / "0.jsonl").read_text().splitlines()
    for name, some in (("a", lines[10:20] + lines[20:40]), ("b", lines[:10] + lines[90:]), ("earlier", lines[80:90])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(some))
    before = _recipe(tmp_path, semantic={"model": None})
    curate(before, tmp_path / "before", [tmp_path / "earlier.jsonl"])
    recipe = _recipe(
        tmp_path,
        datasets={name: {"paths": [str(tmp_path / f"{name}.jsonl")]} for name in ("a", "b")},
        against=[str(tmp_path / "before")],
        semantic={"keep": keep, "clusters": 2},
    )
    sources = [Path(path) for path in recipe.curate.paths]
    made = curate(recipe, tmp_path / "curate", sources, open_embedder=open_letters)
    (line,) = (line for line in made.facts["steps"] if line["name"] == "semantic")
    assert line["dropped"] == {"semantic duplicate": 10, "semantic duplicate of an earlier artifact": 10}
    assert {_number(url) for url in _kept(made.path)} == set(range(10, 40))


def test_hard_keeps_the_farthest_from_the_centre_and_easy_the_nearest(tmp_path: Path) -> None:
    _corpus(tmp_path / "in")
    cosines: dict[str, list[float]] = {}
    for keep in ("hard", "easy"):
        recipe = _recipe(tmp_path, semantic={"keep": keep})
        made = curate(recipe, tmp_path / keep, [tmp_path / "in"], open_embedder=open_letters)
        cosines[keep] = sorted(_number(url) for url in _kept(made.path))
    other = {number if number < 80 else number - 80 for number in cosines["hard"]} & set(range(20))
    assert other == set(range(20))
    hard, easy = (set(cosines[keep]) for keep in ("hard", "easy"))
    pairs = [{number, number + 80} for number in range(20)]
    assert all(pair & hard != pair & easy for pair in pairs)


def test_a_killed_run_goes_on_and_files_and_workers_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _corpus(tmp_path / "in")
    whole = curate(_recipe(tmp_path), tmp_path / "whole", [tmp_path / "in"], open_embedder=open_letters)
    monkeypatch.setattr("megalith.curation.engine._cores", lambda: 1)  # in this process, where it is patched
    monkeypatch.setattr("megalith.curation.embeddings.TASK_DOCUMENTS", 16)
    monkeypatch.setattr("megalith.curation.semantic.LINK_TASKS", 3)
    calls = {EmbedPiece: 3, LinkClusters: 1}
    for work, most in calls.items():
        original, done = work.__call__, []

        def killed(self: Any, task: Any, original: Any = original, done: list[int] = done, most: int = most) -> Any:
            if len(done) == most:
                raise KeyboardInterrupt
            done.append(1)
            return original(self, task)

        with monkeypatch.context() as patched:
            patched.setattr(work, "__call__", killed)
            with pytest.raises(KeyboardInterrupt):
                curate(_recipe(tmp_path), tmp_path / "again", [tmp_path / "in"], open_embedder=open_letters)
        parts = list(tmp_path.glob(".again-semantic.partial/parts/*.f16"))
        assert len(parts) == (3 if work is EmbedPiece else 0)
    again = curate(_recipe(tmp_path), tmp_path / "again", [tmp_path / "in"], open_embedder=open_letters)
    assert again.digest == whole.digest
    (tmp_path / "files").mkdir()
    _corpus(tmp_path / "files" / "in", files=3)
    in_files = curate(
        _recipe(tmp_path / "files"),
        tmp_path / "files" / "curate",
        [tmp_path / "files" / "in"],
        open_embedder=open_letters,
    )
    assert _kept(in_files.path) == _kept(whole.path)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 1.5, "high"])
def test_a_threshold_out_of_range_is_refused(tmp_path: Path, threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold"):
        _recipe(tmp_path, semantic={"threshold": threshold})


def test_a_model_that_is_missing_or_wrong_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    _corpus(tmp_path / "in")
    (tmp_path / "other").write_text("other")
    for model, said in (("nowhere", "curate.semantic.model: there is no such model"), ("other", "not a model")):
        recipe = _recipe(tmp_path, semantic={"model": str(tmp_path / model)})
        with pytest.raises(InputError, match=said):
            curate(recipe, tmp_path / "curate", [tmp_path / "in"], open_embedder=open_letters)
        assert not list(tmp_path.glob("*curate*"))


def test_torch_has_its_threads_again_after_k_means() -> None:
    before = torch.get_num_threads()
    train(_vectors(20, 8, 2), 2)
    assert torch.get_num_threads() == before
