"""Masked samples: one document each, what was masked is the target, and nothing depends on who asks."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from megalith.errors import InputError, RecipeError
from megalith.tokens import (
    IGNORE,
    MaskedBatch,
    MaskedWindows,
    Shards,
    SpecialTokens,
    ValidationMaskedWindows,
    write_shards,
)
from megalith.tokens.order import window_starts

SPECIAL = SpecialTokens(end_of_text=0, pad=1, cls=2, sep=3, mask=4)
FIRST_TEXT = 5
VOCAB = 60_000

WriteDocuments = Callable[[Sequence[int]], Shards]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> WriteDocuments:
    """Documents of the given lengths (closing `<|endoftext|>` included): each token is 5 + its place in the stream."""

    def write(lengths: Sequence[int]) -> Shards:
        bounds = np.cumsum([0, *lengths])
        texts = [[*range(FIRST_TEXT + first, FIRST_TEXT + end - 1), 0] for first, end in itertools.pairwise(bounds)]
        return write_shards(tmp_path_factory.mktemp("documents") / "train", texts, VOCAB)

    return write


def rows(batch: MaskedBatch) -> list[list[int]]:
    """Everything of each sample, in one list."""
    arrays = [np.atleast_2d(value.T).T for value in batch.values()]  # type: ignore[attr-defined]  # all are arrays
    return np.concatenate(arrays, axis=1).tolist()  # type: ignore[no-any-return]  # NumPy's tolist is untyped


def texts(batch: MaskedBatch) -> list[tuple[list[int], list[int]]]:
    """The two pieces of each sample with the masks taken off, read off the frame alone; the frame is checked."""
    unmasked = np.where(batch["targets"] != IGNORE, batch["targets"], batch["tokens"])
    found = []
    for row, length, segments in zip(unmasked.tolist(), batch["lengths"], batch["segments"].tolist(), strict=True):
        assert row[0] == SPECIAL.cls
        assert row[length - 1] == SPECIAL.sep
        assert row[length:] == [SPECIAL.pad] * (len(row) - length)
        middle = row.index(SPECIAL.sep)
        assert segments == [0] * (middle + 1) + [1] * (length - middle - 1) + [0] * (len(row) - length)
        found.append((row[1:middle], row[middle + 1 : length - 1]))
    return found


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8).filter(lambda lengths: sum(lengths) > 1),
    length=st.integers(5, 40),
    first=st.integers(0, 10**12),
    seed=st.integers(0, 2**70),
)
def test_a_sample_is_the_text_nearest_to_the_middle_of_its_window_in_one_document(
    documents: WriteDocuments, lengths: list[int], length: int, first: int, seed: int
) -> None:
    shards = documents(lengths)
    most, total = length - 3, sum(lengths)
    batch = MaskedWindows(shards, length, seed, VOCAB, SPECIAL).batch(first, 12)
    starts = window_starts(np.arange(first, first + 12, dtype=np.uint64), total, most, seed)
    for start, (one, two), swapped in zip(starts.tolist(), texts(batch), batch["order"].tolist(), strict=True):
        middle = (start + most // 2) % total
        bounds = itertools.pairwise(itertools.accumulate([0, *lengths]))
        begin, end = next((begin, end) for begin, end in bounds if begin <= middle < end)
        document = shards.stream[begin:end]
        choices = [document[at : at + most].tolist() for at in range(max(1, len(document) - most + 1))]
        text = min(choices, key=lambda one: abs(choices.index(one) + most // 2 - (middle - begin)))
        if text[-1] == SPECIAL.end_of_text and len(text) > 1:
            text = text[:-1]
        if len(text) == 1:
            assert (one, two, swapped) == (text, [], IGNORE)
        else:
            assert (two + one if swapped == 1 else one + two) == text
            assert one
            assert two
            assert swapped in (0, 1)


def test_a_document_of_one_token_is_all_of_the_first_piece_and_its_target(documents: WriteDocuments) -> None:
    batch = MaskedWindows(documents([1] * 20), 8, 3, VOCAB, SPECIAL).batch(0, 40)
    assert texts(batch) == [([SPECIAL.end_of_text], [])] * 40
    assert batch["lengths"].tolist() == [4] * 40
    assert batch["targets"].tolist() == [[IGNORE, SPECIAL.end_of_text] + [IGNORE] * 6] * 40
    assert batch["order"].tolist() == [IGNORE] * 40


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(2, 90), min_size=1, max_size=8), length=st.integers(5, 80))
def test_fifteen_percent_of_the_text_are_targets_and_no_special_token_is(
    documents: WriteDocuments, lengths: list[int], length: int
) -> None:
    batch = MaskedWindows(documents(lengths), length, 3, VOCAB, SPECIAL).batch(0, 30)
    for (one, two), targets in zip(texts(batch), batch["targets"], strict=True):
        chosen = targets[targets != IGNORE]
        assert len(chosen) == max(1, int(0.15 * len(one + two) + 0.5))
        assert set(chosen.tolist()) <= set(one + two)
        assert not set(chosen.tolist()) & set(SPECIAL.ids)
    assert (batch["tokens"][batch["targets"] == IGNORE] != SPECIAL.mask).all()


def test_of_the_targets_eighty_percent_are_masked_ten_random_and_ten_left(documents: WriteDocuments) -> None:
    batch = MaskedWindows(documents([5000] * 4), 128, 3, VOCAB, SPECIAL).batch(0, 2000)
    chosen = batch["targets"] != IGNORE
    tokens, targets = batch["tokens"][chosen], batch["targets"][chosen]
    masked, left = tokens == SPECIAL.mask, tokens == targets
    random = tokens[~masked & ~left]
    for count, share in ((masked.sum(), 0.8), (left.sum(), 0.1), (len(random), 0.1)):
        assert binomtest(int(count), len(tokens), share).pvalue > 1e-5
    assert random.min() >= FIRST_TEXT  # none of 0 … 4, which are special
    assert random.max() < VOCAB
    assert chisquare(np.histogram(random, bins=20, range=(FIRST_TEXT, VOCAB))[0]).pvalue > 1e-5


def test_random_tokens_are_all_of_a_small_vocabulary_but_the_special_ones(tmp_path: Path) -> None:
    scattered = SpecialTokens(end_of_text=0, pad=9, cls=3, sep=4, mask=7)
    shards = write_shards(tmp_path / "train", [[1] * 500 + [0]], 10)
    batch = MaskedWindows(shards, 64, 1, 10, scattered).batch(0, 1000)
    replaced = batch["tokens"][batch["targets"] != IGNORE]
    assert set(replaced.tolist()) == {1, 2, 5, 6, 8, scattered.mask}


def test_every_place_is_masked_and_every_cut_is_made_equally_often_and_half_are_swapped(
    documents: WriteDocuments,
) -> None:
    batch = MaskedWindows(documents([4001] * 2), 23, 5, VOCAB, SPECIAL).batch(0, 6000)
    full = batch["lengths"] == 23
    firsts = np.array([len(one) for one, _ in texts(batch)])
    assert chisquare(np.bincount(firsts[full], minlength=20)[1:]).pvalue > 1e-5
    assert binomtest(int(batch["order"].sum()), 6000, 0.5).pvalue > 1e-5
    half = full & (firsts == 10)
    counts = (batch["targets"][half] != IGNORE).sum(axis=0)
    ordinary = np.r_[1:11, 12:22]
    assert counts.sum() == counts[ordinary].sum()
    assert chisquare(counts[ordinary]).pvalue > 1e-5


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=6), first=st.integers(0, 10**12))
def test_any_way_of_cutting_a_run_into_batches_gives_the_same_samples(
    documents: WriteDocuments, cuts: list[int], first: int
) -> None:
    windows = MaskedWindows(documents([70, 3, 200, 41]), 32, 3, VOCAB, SPECIAL)
    read = [windows.batch(first + start, end - start) for start, end in itertools.pairwise([0, *sorted(cuts), 40])]
    assert [row for batch in read for row in rows(batch)] == rows(windows.batch(first, 40))


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(1, 24), (2, 4), (3, 2), (8, 3), (24, 1)])
def test_every_layout_reads_one_global_batch_between_its_ranks(
    documents: WriteDocuments, ranks: int, micro_batch_size: int
) -> None:
    windows = MaskedWindows(documents([70, 3, 200, 41] * 5), 32, 3, VOCAB, SPECIAL)
    read = [
        row
        for rank in range(ranks)
        for first in range(48 + rank * micro_batch_size, 48 + 24, ranks * micro_batch_size)
        for row in rows(windows.batch(first, micro_batch_size))
    ]
    assert sorted(read) == sorted(rows(windows.batch(48, 24)))


def test_another_seed_and_another_epoch_mask_and_cut_otherwise(documents: WriteDocuments) -> None:
    shards = documents([40])  # one document, which comes whole each time
    one, other = (MaskedWindows(shards, 43, seed, VOCAB, SPECIAL) for seed in (1, 2))
    samples = rows(one.batch(0, 3 * one.per_epoch)) + rows(other.batch(0, 3))
    assert one.per_epoch == 1
    assert len({tuple(row) for row in samples}) == 6


def test_the_samples_are_fixed_for_good(documents: WriteDocuments) -> None:
    # A run that is resumed by a later version must go on with the same samples: these figures may never change.
    batch = MaskedWindows(documents([50, 30]), 12, 1234, VOCAB, SPECIAL).batch(10**12, 3)
    assert batch["tokens"].tolist() == [
        [2, 12, 13, 3, 5, 6, 7, 8, 4, 10, 11, 3],
        [2, 39, 40, 41, 3, 42, 43, 44, 45, 46, 47, 3],
        [2, 65, 66, 67, 68, 3, 69, 70, 71, 4, 73, 3],
    ]
    assert batch["order"].tolist() == [1, 0, 0]


def test_several_shards_give_the_samples_of_one(tmp_path: Path) -> None:
    texts = [[*range(FIRST_TEXT + 100 * n, FIRST_TEXT + 100 * n + 37 * (n % 3) + 4), 0] for n in range(9)]
    whole = write_shards(tmp_path / "whole", texts, VOCAB)
    prefixes = [tmp_path / f"part-{n}" for n in range(3)]
    for n, prefix in enumerate(prefixes):
        write_shards(prefix, texts[3 * n : 3 * n + 3], VOCAB)
    for shards in (whole, Shards(*prefixes)):
        assert rows(MaskedWindows(shards, 24, 3, VOCAB, SPECIAL).batch(0, 50)) == rows(
            MaskedWindows(whole, 24, 3, VOCAB, SPECIAL).batch(0, 50)
        )


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(2, 60), min_size=1, max_size=8), size=st.integers(1, 9))
def test_validation_takes_the_windows_in_order_with_masks_that_never_change(
    documents: WriteDocuments, lengths: list[int], size: int
) -> None:
    windows = ValidationMaskedWindows(documents(lengths), 20, 3, VOCAB, SPECIAL)
    read = [row for batch in windows.batches(size) for row in rows(batch)]
    assert len(read) == len(windows) == -(-sum(lengths) // 17)
    assert read == rows(windows.batch(0, len(windows) + 5))
    assert windows.batch(len(windows) + 1, 3)["tokens"].shape == (0, 20)
    for number, (one, two) in enumerate(texts(windows.batch(0, len(windows)))):
        middle = min(17 * number + 8, sum(lengths) - 1)
        assert min(abs(token - FIRST_TEXT - middle) for token in one + two) <= 1  # 1: it may be the <|endoftext|>


def test_too_little_text_and_too_short_a_sequence_are_refused(documents: WriteDocuments) -> None:
    for kind, split in ((MaskedWindows, "training"), (ValidationMaskedWindows, "validation")):
        with pytest.raises(InputError, match=f"{split} split holds no token"):
            kind(documents([]), 20, 3, VOCAB, SPECIAL)
        with pytest.raises(RecipeError, match="no room"):
            kind(documents([50]), 4, 3, VOCAB, SPECIAL)
