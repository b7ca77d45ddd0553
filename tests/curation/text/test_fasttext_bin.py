import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation.text.fasttext import read_fasttext
from megalith.errors import InputError, UnsupportedError
from tests.curation.fasttext_file import HS, NS, OVA, Model, dense

WORDS = ["</s>", "the", "of", "naïve", "語", "a", "__x"]
TEXTS = [
    "the naïve of the zebra",
    "",
    "語 a\tthe\nof\x00of",
    "__label__hq the __label__zz of",
    "the </s> of of",
    "é語ß Zebra",
]


def model(dimensions: int = 5, labels: int = 2, seed: int = 1, **settings: Any) -> Model:
    drawn = np.random.default_rng(seed)
    buckets, kept = settings.get("buckets", 0), settings.get("kept")
    size = len(WORDS) + (len(kept) if isinstance(kept, dict) else int(str(buckets)))
    return Model(
        words=WORDS,
        labels=["__label__hq", "__label__cc", "__label__other"][:labels],
        rows=drawn.normal(size=(size, dimensions)).astype(np.float32),
        output=drawn.normal(size=(labels, dimensions)).astype(np.float32),
        **settings,
    )


MODELS = {
    "words": model(),
    "pairs": model(buckets=50, ngrams=2),
    "triples of a pruned model": model(
        buckets=50, ngrams=3, kept={number: place for place, number in enumerate(range(1, 50, 3))}
    ),
    "a model pruned of all buckets": model(buckets=50, ngrams=2, kept={}),
    "sub-words": model(buckets=97, subwords=(1, 3)),
    "sub-words and pairs": model(buckets=97, subwords=(2, 4), ngrams=2),
    "more labels than dimensions": model(dimensions=2, labels=3),
    "hierarchical softmax": model(labels=3, loss=HS, buckets=9, ngrams=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_those_of_the_format_written_out_by_hand(tmp_path: Path, name: str) -> None:
    held = MODELS[name]
    found = read_fasttext(held.write(tmp_path / "model.bin"))
    assert found.labels == tuple(held.labels)
    wanted = np.array([held.probabilities(text) for text in TEXTS])
    np.testing.assert_allclose(found.probabilities(pa.array(TEXTS)), wanted, atol=2e-6)  # sums of float32
    assert wanted.std(axis=0).min() > 0.01


@pytest.mark.parametrize("loss", [NS, OVA])
def test_labels_that_are_judged_one_by_one_are_within_a_step_of_the_table(tmp_path: Path, loss: int) -> None:
    held = model(loss=loss, buckets=50, ngrams=2)
    found = read_fasttext(held.write(tmp_path / "model.bin")).probabilities(pa.array(TEXTS))
    wanted = np.array([held.probabilities(text) for text in TEXTS])
    assert np.abs(found - wanted).max() < 16 / 512 / 4  # fastText's table has 512 steps over 16, and σ a slope of ¼
    assert np.abs(found - wanted).max() > 1e-5


def test_a_quantized_matrix_is_its_centroids_and_norms(tmp_path: Path) -> None:
    drawn = np.random.default_rng(2)
    shape = model(dimensions=5, buckets=50, ngrams=2)
    size = len(shape.rows)
    centroids = [drawn.normal(size=(256, width)).astype("<f4") for width in (2, 2, 1)]
    codes, norm_codes = drawn.integers(0, 256, (size, 3), np.uint8), drawn.integers(0, 256, size, np.uint8)
    norms = drawn.uniform(0.5, 2.0, 256).astype("<f4")
    rows = (
        np.concatenate([table[codes[:, part]] for part, table in enumerate(centroids)], axis=1)
        * norms[norm_codes, None]
    )
    quantizer = struct.pack("<iiii", 5, 3, 2, 1) + b"".join(table.tobytes() for table in centroids)
    of_norms = struct.pack("<iiii", 1, 1, 1, 1) + norms.tobytes()
    matrix = (
        struct.pack("<?qqi", True, size, 5, codes.size) + codes.tobytes() + quantizer + norm_codes.tobytes() + of_norms
    )
    path = tmp_path / "model.ftz"
    path.write_bytes(shape.head() + b"\1" + matrix + b"\0" + dense(shape.output))
    whole = Model(WORDS, shape.labels, rows.astype(np.float32), shape.output, buckets=50, ngrams=2)
    wanted = [whole.probabilities(text) for text in TEXTS]
    np.testing.assert_allclose(read_fasttext(path).probabilities(pa.array(TEXTS)), wanted, atol=2e-6)


def test_one_label_is_scored_and_another_name_refused(tmp_path: Path) -> None:
    found = read_fasttext(model().write(tmp_path / "model.bin"))
    texts = pa.array(["x", *TEXTS]).slice(1)
    assert np.array_equal(found.scores(texts, "__label__hq"), found.probabilities(texts)[:, 0])
    assert found.scores(pa.array([], pa.string()), "__label__cc").shape == (0,)
    with pytest.raises(InputError, match="__label__hq, __label__cc"):
        found.scores(texts, "__label__good")


def test_a_text_without_a_known_feature_has_no_quality(tmp_path: Path) -> None:
    held = model()
    without_end = Model(["the"], held.labels, held.rows[:1], held.output)
    found = read_fasttext(without_end.write(tmp_path / "model.bin")).probabilities(pa.array(["", "zebra", "the"]))
    assert found[:2].max() == 0.0
    assert found[2].min() > 0.0


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = model(buckets=5, ngrams=2, kept={1: 0, 4: 1}).data()
    path = tmp_path / "model.bin"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(InputError):
            read_fasttext(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for data in (b"", b"\x80\x04pickle", b"PK\x03\x04" + bytes(500), bytes(500), model().head(version=13)):
        path.write_bytes(data)
        with pytest.raises(InputError, match="fastText model"):
            read_fasttext(path)
    with pytest.raises(InputError, match="No such file"):
        read_fasttext(tmp_path / "missing.bin")
    held = model()
    path.write_bytes(held.head(kind=2) + held.data())
    with pytest.raises(UnsupportedError, match="labels"):
        read_fasttext(path)


def test_sizes_that_the_file_cannot_hold_are_refused_before_anything_is_set_aside(tmp_path: Path) -> None:
    held = model()
    path = tmp_path / "model.bin"
    for rows, columns in ((1 << 60, 5), (-1, 5), (len(WORDS), 1 << 40)):
        path.write_bytes(held.head() + b"\0" + struct.pack("<qq", rows, columns) + bytes(900))
        with pytest.raises(InputError):
            read_fasttext(path)


@pytest.mark.parametrize("place", range(8, 56, 4))
def test_a_setting_of_all_bits_is_no_crash(tmp_path: Path, place: int) -> None:
    data = bytearray(model(buckets=5, ngrams=2, subwords=(1, 2)).data())
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(data))
    try:
        found = read_fasttext(path).probabilities(pa.array(TEXTS))
    except (InputError, UnsupportedError):
        return
    assert found.min() >= 0.0 and found.max() <= 1.0
