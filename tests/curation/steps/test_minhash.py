import math
import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation.steps.dedup import band_keys, components, find_components, permutations, signatures
from megalith.ngrams.words import ngrams, words
from megalith.recipe.minhash import MinHashConfig

SHINGLE, BANDS, ROWS = 5, 20, 13
HASHES = BANDS * ROWS
VOCABULARY = [f"word{number}" for number in range(5000)]


def _text(draws: random.Random, length: int = 200) -> list[str]:
    return [draws.choice(VOCABULARY) for _ in range(length)]


def _edited(draws: random.Random, text: list[str], edits: int) -> list[str]:
    changed = list(text)
    for _ in range(edits):
        changed[draws.randrange(len(changed))] = draws.choice(VOCABULARY)
    return changed


def _jaccard(one: list[str], other: list[str]) -> float:
    sets = [{tuple(text[at : at + SHINGLE]) for at in range(len(text) - SHINGLE + 1)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def _planted(seed: int, count: int, most_edits: int) -> tuple[list[str], np.ndarray]:
    """Texts, each before an edited copy, and the exact similarity of each pair."""
    draws = random.Random(seed)
    texts, exact = [], []
    for number in range(count):
        one = _text(draws)
        other = _edited(draws, one, number % (most_edits + 1))
        texts += [" ".join(one), " ".join(other)]
        exact.append(_jaccard(one, other))
    return texts, np.array(exact)


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Signatures (pairs, 2, hashes) and exact similarities of planted near-duplicates."""
    texts, exact = _planted(7, 600, 24)
    return signatures(pa.array(texts), SHINGLE, HASHES).reshape(-1, 2, HASHES), exact


def test_a_signature_is_the_least_hash_of_any_shingle_under_each_permutation() -> None:
    texts = ["a b c d e f g", "one two", "", "x " * 50, "Ünïcode wörds — und mehr, “viel” mehr Wörter als fünf"]
    found = words(pa.array(texts))
    multipliers, increments = permutations(HASHES)
    for document, made in enumerate(signatures(pa.array(texts), SHINGLE, HASHES)):
        hashes = found.hashes[found.bounds[document] : found.bounds[document + 1]]
        states = ngrams(hashes, min(SHINGLE, len(hashes))) if len(hashes) else hashes
        states = (states ^ (states >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        shingles = (states >> np.uint64(32)).astype(np.uint32)
        values = multipliers[:, None] * shingles + increments[:, None]  # uint32, so modulo 2³²
        assert np.array_equal(made, values.min(axis=1, initial=np.uint32(0xFFFFFFFF)))


def test_equal_places_estimate_the_jaccard_similarity(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    signed, exact = pairs
    errors = (signed[:, 0] == signed[:, 1]).mean(axis=1) - exact
    theory = math.sqrt(np.mean(exact * (1 - exact)) / HASHES)
    assert abs(errors.mean()) < 5 * theory / math.sqrt(len(exact))  # unbiased: five standard errors
    assert 0.85 < np.sqrt(np.mean(errors**2)) / theory < 1.15


def test_the_near_are_joined_and_the_far_are_not(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    signed, exact = pairs
    roots = components(signed.reshape(-1, HASHES), BANDS, ROWS, 0.8).reshape(-1, 2)
    joined = roots[:, 0] == roots[:, 1]
    assert joined[exact >= 0.92].mean() > 0.97  # 1 − (1 − 0.92¹³)²⁰ = 0.9993, less the verification's errors
    assert not joined[exact < 0.7].any()  # four standard deviations of the estimate below the threshold
    assert len(np.unique(roots)) == roots.size - joined.sum()  # and no two pairs were joined


def test_components_are_those_of_the_graph_of_verified_pairs() -> None:
    draws = random.Random(3)
    chains = []
    for _ in range(20):
        chain = [_text(draws)]
        for _ in range(5):
            chain.append(_edited(draws, chain[-1], 3))
        chains += chain
    signed = signatures(pa.array([" ".join(text) for text in chains]), SHINGLE, HASHES)
    near = (signed[:, None, :] == signed[None, :, :]).mean(axis=2) >= 0.8
    banded = (
        (signed[:, None].reshape(120, 1, BANDS, ROWS) == signed[None].reshape(1, 120, BANDS, ROWS))
        .all(axis=3)
        .any(axis=2)
    )
    reached = near & banded
    for _ in range(8):  # the transitive closure by squaring
        reached = (reached.astype(int) @ reached.astype(int)) > 0
    assert np.array_equal(components(signed, BANDS, ROWS, 0.8), reached.argmax(axis=1))
    assert 20 < len(np.unique(reached.argmax(axis=1))) < 120  # chains hold together, and not all of them


def test_equal_bands_have_equal_keys_and_others_have_not() -> None:
    signed = np.random.default_rng(0).integers(0, 4, (400, 6), np.uint32)
    keys = band_keys(signed, 3, 2)
    for band in range(3):
        equal = (signed[:, None, 2 * band : 2 * band + 2] == signed[None, :, 2 * band : 2 * band + 2]).all(axis=2)
        assert np.array_equal(keys[:, None, band] == keys[None, :, band], equal)


@pytest.mark.parametrize("preset", ["paper", "recall"])
def test_planted_pairs_are_found_as_the_preset_promises(preset: str) -> None:
    config = MinHashConfig(preset=preset)
    texts, similar = _planted(5, 1500, 8)
    signed = signatures(pa.array(texts), config.shingle_words, config.bands * config.rows)
    roots = components(signed, config.bands, config.rows, config.minimum_jaccard).reshape(-1, 2)
    joined = roots[:, 0] == roots[:, 1]
    far = similar >= 0.85
    met = 1 - (1 - similar[far] ** config.rows) ** config.bands
    assert far.sum() > 600
    assert joined[far].mean() >= {"paper": 0.97, "recall": 0.99}[preset]  # pairs at 0.85 itself: 0.92 and 0.996
    assert abs(joined[far].mean() - met.mean()) < 0.01  # what is lost beside is lost to the verification at 0.8
    assert not joined[similar < 0.7].any()
    assert len(np.unique(roots)) == roots.size - joined.sum()


def test_components_do_not_depend_on_the_order_of_documents_nor_on_where_signatures_are(tmp_path: Path) -> None:
    draws = random.Random(13)
    base = [_text(draws, 80) for _ in range(40)]
    texts = [" ".join(_edited(draws, draws.choice(base), draws.randrange(6))) for _ in range(600)] + ["", "!!", "..."]
    signed = signatures(pa.array(texts), SHINGLE, HASHES)
    roots = components(signed, BANDS, ROWS, 0.8)
    assert roots[-3:].tolist() == [600, 601, 602]  # texts without words are like no other
    order = np.random.default_rng(1).permutation(len(texts))
    np.save(tmp_path / "signatures.npy", signed[order])
    mapped = np.load(tmp_path / "signatures.npy", mmap_mode="r")
    keys = band_keys(mapped, BANDS, ROWS)
    found = find_components(len(texts), BANDS, ROWS, 0.8, lambda band: keys[:, band], lambda places: mapped[places])
    assert found.buckets_cut_short == 0
    groups = {frozenset(np.flatnonzero(roots == root).tolist()) for root in roots}
    assert {frozenset(order[found.roots == root].tolist()) for root in found.roots} == groups


def test_a_page_that_stands_a_million_times_takes_no_longer_than_a_sort() -> None:
    one = signatures(pa.array([" ".join(_text(random.Random(0)))]), SHINGLE, HASHES)[0]
    signed = np.broadcast_to(one, (1_000_000, HASHES))
    keys = band_keys(signed[:1], BANDS, ROWS)
    fetched = []

    def read(places: np.ndarray) -> np.ndarray:
        fetched.append(len(places))
        return signed[places]

    begun = time.process_time()
    found = find_components(1_000_000, BANDS, ROWS, 0.8, lambda band: np.repeat(keys[:, band], 1_000_000), read)
    assert not found.roots.any()
    assert not fetched
    assert time.process_time() - begun < 10


def test_a_large_bucket_of_variants_is_one_component_and_one_of_strangers_is_given_up() -> None:
    draws = np.random.default_rng(2)
    documents, hashes = 100_000, 20  # two bands of ten, the second a document's own
    signed = draws.integers(0, 2**32, (documents, hashes), np.uint32)
    signed[:, :16] = 7
    keys = np.stack([np.zeros(documents, np.uint64), np.arange(documents, dtype=np.uint64)], axis=1)

    def find(minimum: float) -> tuple[np.ndarray, int]:
        found = find_components(documents, 2, 10, minimum, lambda band: keys[:, band], lambda places: signed[places])
        return found.roots, found.buckets_cut_short

    begun = time.process_time()
    roots, cut_short = find(0.8)  # 16 of 20 agree
    assert not roots.any() and cut_short == 0
    roots, cut_short = find(0.9)
    assert np.array_equal(roots, np.arange(documents)) and cut_short == 2
    assert time.process_time() - begun < 20
