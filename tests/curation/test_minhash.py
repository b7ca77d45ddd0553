import math
import random

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation.minhash import components, find_near_duplicates, permutations, signatures
from megalith.curation.words import ngrams, words

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


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Signatures (pairs, 2, hashes) and exact similarities of planted near-duplicates."""
    draws = random.Random(7)
    texts, exact = [], []
    for number in range(600):
        one = _text(draws)
        other = _edited(draws, one, number % 25)
        texts += [" ".join(one), " ".join(other)]
        exact.append(_jaccard(one, other))
    return signatures(pa.array(texts), SHINGLE, HASHES).reshape(-1, 2, HASHES), np.array(exact)


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


def _documents(texts: list[str]) -> pa.Table:
    signed = signatures(pa.array(texts), SHINGLE, HASHES)
    return pa.table(
        {
            "row": range(len(texts)),
            "id": [f"{hash(text) % 997:04d}{text[:12]}" for text in texts],
            "url": [None] * len(texts),
            "bytes": [len(text.encode()) for text in texts],
            "signature": [row.tobytes() for row in signed],
        }
    )


def test_the_longest_copy_is_kept_whatever_the_order() -> None:
    draws = random.Random(11)
    base = _text(draws)
    group = [" ".join(base), " ".join([*base, "tail"]), " ".join([*base, "a", "longer", "tail"])]
    texts = [*group, " ".join(_text(draws)), "!!! ???", "... ,,,"]
    for _ in range(4):
        draws.shuffle(texts)
        table = _documents(texts)
        found = find_near_duplicates(table, BANDS, ROWS, 0.8)
        assert sorted(texts[row] for row in found["row"].to_pylist()) == sorted(group[:2])
        longest = table["id"].to_pylist()[texts.index(group[2])]
        assert found["kept_id"].to_pylist() == [longest, longest]
