"""Planted overlap with the training text is found exactly, and clean and dirty scores are told apart or not told."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.errors import InputError
from megalith.evaluation.contamination import RULES, Overlap, clean_and_dirty, contamination
from megalith.evaluation.measures import measures_of
from tests.evaluation.judged import choices

VOCABULARY = [f"word{number}" for number in range(5000)]


def write_corpus(path: Path, texts: list[str], files: int = 2) -> Path:
    (path / "train").mkdir(parents=True)
    for part in range(files):
        pq.write_table(pa.table({"text": texts[part::files]}), path / "train" / f"part-{part:05d}.parquet")
    return path


def prose(rng: np.random.Generator, length: int) -> list[str]:
    return [VOCABULARY[number] for number in rng.integers(5000, size=length)]


def by_hand(texts: list[str], document: str, size: int) -> int:
    """N-grams of the document that stand in a text, by strings."""

    def grams(text: str) -> list[tuple[str, ...]]:
        split = re.findall(r"\w+", text.lower())
        return [tuple(split[place : place + size]) for place in range(len(split) - size + 1)]

    held = {gram for text in texts for gram in grams(text)}
    return sum(gram in held for gram in grams(document))


def test_planted_overlap_of_known_size_is_found_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [prose(rng, 40) for _ in range(6)]
    planted = {1: documents[1][5:17], 2: documents[2][:13], 3: documents[3][4:39], 4: documents[4]}  # 12, 13, 35, 40
    corpus = [" ".join([*prose(rng, 100), *words, *prose(rng, 100)]) for words in planted.values()]
    corpus[0] = corpus[0].upper().replace(" WORD1", ",  WORD1")  # neither case nor signs between words count
    found = contamination(
        {"boolq": [(str(place), " ".join(words)) for place, words in enumerate(documents)]},
        write_corpus(tmp_path, corpus),
    )
    assert [(one.ngrams_13, one.found_13) for one in found] == [(28, 0), (28, 0), (28, 1), (28, 23), (28, 28), (28, 0)]
    assert [(one.ngrams_8, one.found_8) for one in found] == [(33, 0), (33, 5), (33, 6), (33, 28), (33, 33), (33, 0)]
    assert [one.covered for one in found] == [0, 12 / 40, 13 / 40, 35 / 40, 1, 0]
    assert [one.is_dirty("any_13_words") for one in found] == [False, False, True, True, True, False]
    assert [one.is_dirty("mostly_covered") for one in found] == [False, False, False, True, True, False]


def test_counts_are_those_of_strings_and_span_no_two_documents(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    small = VOCABULARY[:3]  # so few words that n-grams recur by chance
    texts = [" ".join(rng.choice(small, size=30)) for _ in range(400)]
    documents = [(str(place), " ".join(rng.choice(small, size=25))) for place in range(40)]
    found = contamination({"a": documents[:20], "b": documents[20:]}, write_corpus(tmp_path, texts))
    assert [one.task for one in found] == ["a"] * 20 + ["b"] * 20
    assert [one.found_8 for one in found] == [by_hand(texts, text, 8) for _, text in documents]
    assert [one.found_13 for one in found] == [by_hand(texts, text, 13) for _, text in documents]
    assert 0 < sum(one.found_8 for one in found) < 40 * 18


def test_documents_that_are_too_short_are_neither_clean_nor_dirty(tmp_path: Path) -> None:
    short, middle = contamination(
        {"t": [("s", "a b c"), ("m", "a b c d e f g h i")]}, write_corpus(tmp_path, ["x y z"])
    )
    assert (short.share, short.covered, short.is_dirty("mostly_covered")) == (None, None, None)
    assert (middle.share, middle.is_dirty("any_13_words"), middle.is_dirty("mostly_covered")) == (0, None, False)
    assert json.loads(json.dumps(middle.to_json()))["mostly_covered"] is False


def overlaps(dirty: int, clean: int) -> list[Overlap]:
    return [Overlap("t", f"q{place}", 40, 28, 28 * (place < dirty), 33, 0, 0.0) for place in range(dirty + clean)]


def test_the_difference_has_newcombes_interval_and_the_parts_add_up() -> None:
    results = choices([1.0] * 56 + [0.0] * 14 + [1.0] * 48 + [0.0] * 32)
    row, covered = clean_and_dirty(overlaps(70, 80), results, measures_of(results)[0])
    assert (row["clean"]["documents"], row["dirty"]["documents"], row["too_short"]) == (80, 70, 0)
    assert row["difference"] == pytest.approx(0.2)
    # Newcombe (1998), Table II: 56/70 − 48/80, method 10.
    assert row["difference_interval"] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert row["note"] == "the interval is clear of zero"
    assert covered["note"] == "cannot tell: 0 dirty documents, and 10 are needed" and covered["dirty"]["score"] is None


def test_few_dirty_documents_tell_nothing() -> None:
    results = choices([1.0, 0.0] * 20)
    row = clean_and_dirty(overlaps(3, 37), results, measures_of(results)[0])[0]
    assert row["note"] == "cannot tell: 3 dirty documents, and 10 are needed"
    assert row["difference"] is None and row["clean"]["score"] is not None
    one_passage = choices([1.0, 0.0] * 20, ["same"] * 40)
    row = clean_and_dirty(overlaps(20, 20), one_passage, measures_of(one_passage)[0])[0]
    assert row["note"].startswith("cannot tell: 1 ")
    assert set(RULES) == {"any_13_words", "mostly_covered"}


def test_a_corpus_without_training_text_or_with_a_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training text"):
        contamination({"t": [("a", "b")]}, tmp_path)
    corpus = write_corpus(tmp_path / "c", ["a", "b"])
    (corpus / "train" / "part-00001.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match="damaged"):
        contamination({"t": [("a", "b")]}, corpus)
