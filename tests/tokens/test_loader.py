"""The order of training samples: a bijection, a pure function, and the same for every layout."""

import itertools
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm

from megalith.errors import InputError
from megalith.tokens import IGNORE, MaskedWindows, Shards, SpecialTokens, TrainingWindows, ValidationWindows
from megalith.tokens.order import permute
from megalith.tokens.stream import JoinedStream


def stream(tokens: int) -> np.ndarray:
    """Tokens that are their own place."""
    return np.arange(tokens, dtype=np.int32)


def order(size: int, key: int) -> np.ndarray:
    return permute(np.arange(size, dtype=np.uint64), size, np.full(size, key, dtype=np.uint64))


def test_the_permutation_is_a_bijection_on_every_size_to_300() -> None:
    for size in range(1, 301):
        assert sorted(order(size, 7 * size)) == list(range(size))


@pytest.mark.parametrize("size", [4095, 4096, 4097, 100_003])
def test_the_permutation_is_a_bijection_on_larger_sizes(size: int) -> None:
    assert np.array_equal(np.sort(order(size, 5)), np.arange(size))


@pytest.mark.parametrize("size", [2**40 + 1, 2**62])
def test_the_permutation_stays_inside_and_apart_on_sizes_that_no_index_could_hold(size: int) -> None:
    numbers = np.concatenate([np.arange(5000), size - 1 - np.arange(5000)]).astype(np.uint64)
    images = permute(numbers, size, np.full(len(numbers), 3, dtype=np.uint64))
    assert len(set(images.tolist())) == len(numbers)
    assert images.min() >= 0
    assert images.max() < size
    assert 0.48 < (images / size).mean() < 0.52  # 7 standard errors of a uniform mean


@pytest.mark.parametrize("size", [3, 4])
def test_all_permutations_of_a_small_set_are_equally_likely(size: int) -> None:
    keys = 4800
    numbers = np.tile(np.arange(size, dtype=np.uint64), keys)
    images = permute(numbers, size, np.repeat(np.arange(keys, dtype=np.uint64), size)).reshape(keys, size)
    found = [tuple(row) for row in images.tolist()]
    counts = [found.count(arrangement) for arrangement in itertools.permutations(range(size))]
    assert sum(counts) == keys
    assert chisquare(counts).pvalue > 1e-4


def test_each_place_takes_each_number_equally_often() -> None:
    size, keys = 20, 4000
    numbers = np.tile(np.arange(size, dtype=np.uint64), keys)
    images = permute(numbers, size, np.repeat(np.arange(keys, dtype=np.uint64), size)).reshape(keys, size)
    for place in range(size):
        assert chisquare(np.bincount(images[:, place], minlength=size)).pvalue > 1e-5  # 20 places are looked at


def test_neighbours_are_not_kept_together() -> None:
    # Of a random permutation, successive images have no correlation: r·√n is standard normal.
    images = order(50_000, 11).astype(float)
    statistic = np.corrcoef(images[:-1], images[1:])[0, 1] * np.sqrt(len(images))
    assert 2 * norm.sf(abs(statistic)) > 1e-4
    follows = np.count_nonzero(np.diff(images) == 1)  # Poisson of mean 1
    assert follows < 9


def test_targets_are_the_tokens_that_follow_the_inputs() -> None:
    windows = TrainingWindows(stream(1000), sequence_length=16, seed=1)
    inputs, targets = windows.batch(0, 40)
    assert inputs.shape == targets.shape == (40, 16)
    assert inputs.dtype == targets.dtype == np.int64
    assert np.array_equal(targets, (inputs + 1) % 1000)
    assert np.array_equal(np.diff(inputs, axis=1) % 1000, np.ones((40, 15)))


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(2, 400), length=st.integers(1, 60), epoch=st.integers(0, 5), seed=st.integers(0, 2**70))
def test_an_epoch_has_each_token_as_target_at_most_once_and_misses_less_than_a_window(
    tokens: int, length: int, epoch: int, seed: int
) -> None:
    windows = TrainingWindows(stream(tokens), length, seed)
    _, targets = windows.batch(epoch * windows.per_epoch, windows.per_epoch)
    if length <= tokens:
        assert len(np.unique(targets)) == targets.size > tokens - length
    else:
        assert targets.shape == (1, length)
        assert len(np.unique(targets)) == tokens


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(2, 300), cuts=st.lists(st.integers(0, 70), max_size=6), first=st.integers(0, 1000))
def test_any_way_of_cutting_a_run_into_batches_gives_the_same_samples(tokens: int, cuts: list[int], first: int) -> None:
    windows = TrainingWindows(stream(tokens), 8, seed=3)
    bounds = [0, *sorted(cuts), 70]
    parts = [windows.batch(first + start, end - start) for start, end in itertools.pairwise(bounds)]
    whole = windows.batch(first, 70)
    assert np.array_equal(np.concatenate([inputs for inputs, _ in parts]), whole[0])
    assert np.array_equal(np.concatenate([targets for _, targets in parts]), whole[1])


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(1, 24), (2, 4), (3, 2), (8, 3), (24, 1)])
def test_every_layout_reads_one_global_batch_between_its_ranks(ranks: int, micro_batch_size: int) -> None:
    windows = TrainingWindows(stream(5000), 32, seed=3)
    read = [
        windows.batch(first, micro_batch_size)[0]
        for rank in range(ranks)
        for first in range(48 + rank * micro_batch_size, 48 + 24, ranks * micro_batch_size)
    ]
    in_any_order = np.concatenate(read)
    together = windows.batch(48, 24)[0]
    assert sorted(in_any_order.tolist()) == sorted(together.tolist())


def test_two_epochs_and_two_seeds_differ_in_order_and_in_where_windows_begin() -> None:
    one, other = (TrainingWindows(stream(6400), 64, seed) for seed in (1, 2))
    first, second = one.batch(0, 100)[0], one.batch(100, 100)[0]
    for different in (second, other.batch(0, 100)[0]):
        assert not np.array_equal(first, different)
        assert set(first[:, 0] % 64) != set(different[:, 0] % 64)


def test_the_order_is_fixed_for_good() -> None:
    # A run that is resumed by a later version must go on with the same samples: these figures may never change.
    windows = TrainingWindows(stream(1000), 10, seed=1234)
    assert windows.batch(0, 4)[0][:, 0].tolist() == [675, 365, 645, 795]
    assert windows.batch(1_000_000_000_000, 4)[0][:, 0].tolist() == [131, 201, 301, 231]


def test_a_stream_shorter_than_a_window_is_gone_round() -> None:
    windows = TrainingWindows(stream(3), 8, seed=0)
    assert windows.per_epoch == 1
    inputs, targets = windows.batch(0, 5)
    assert np.array_equal(targets, (inputs + 1) % 3)


@pytest.mark.parametrize("tokens", [0, 1])
def test_a_stream_with_nothing_to_predict_is_refused(tokens: int) -> None:
    with pytest.raises(InputError, match="training split"):
        TrainingWindows(stream(tokens), 8, seed=0)
    with pytest.raises(InputError, match="validation split"):
        ValidationWindows(stream(tokens), 8)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(2, 300), length=st.integers(1, 40), size=st.integers(1, 9))
def test_validation_predicts_every_token_but_the_first_exactly_once(tokens: int, length: int, size: int) -> None:
    windows = ValidationWindows(stream(tokens), length)
    batches = list(windows.batches(size))
    inputs = np.concatenate([inputs for inputs, _ in batches])
    targets = np.concatenate([targets for _, targets in batches])
    assert inputs.shape == targets.shape == (len(windows), length)
    counted = targets != IGNORE
    assert targets[counted].tolist() == list(range(1, tokens))
    assert np.array_equal(inputs[counted] + 1, targets[counted])
    assert windows.targets == tokens - 1
    assert counted[:-1].all()
    assert counted[-1].any()


def test_validation_windows_past_the_end_are_none() -> None:
    inputs, targets = ValidationWindows(stream(20), 8).batch(3, 4)
    assert inputs.shape == targets.shape == (0, 8)


@pytest.fixture
def trillion(tmp_path: Path) -> Shards:
    """A trillion tokens in 100 pairs that take no room on disk: the .bin are sparse, and the .idx is one file."""
    documents, length, pairs = 20_000, 500_000, 100
    index = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, documents, documents + 1)
    index += np.full(documents, length, "<i4").tobytes() + (np.arange(documents) * 2 * length).astype("<i8").tobytes()
    (tmp_path / "index").write_bytes(index + np.arange(documents + 1).astype("<i8").tobytes())
    prefixes = [tmp_path / f"part-{number}" for number in range(pairs)]
    for prefix in prefixes:
        prefix.with_suffix(".idx").symlink_to(tmp_path / "index")
        with prefix.with_suffix(".bin").open("wb") as file:
            file.truncate(2 * documents * length)
    used_before = time.process_time()
    tracemalloc.start()
    shards = Shards(*prefixes)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 3_000_000  # 100 open pairs, and the ends of one index at a time
    assert time.process_time() - used_before < 1.0  # about 0.1 s
    return shards


def test_a_trillion_tokens_open_at_once_and_their_first_batch_builds_no_index(trillion: Shards) -> None:
    assert (trillion.tokens, trillion.documents) == (10**12, 2_000_000)
    special = SpecialTokens(end_of_text=0, pad=1, cls=2, sep=3, mask=4)
    causal = TrainingWindows(trillion.stream, 64, seed=1)
    masked = MaskedWindows(trillion, 64, 1, 100, special)
    used_before = time.process_time()
    tracemalloc.start()
    inputs, _ = causal.batch(causal.per_epoch * 3 - 32, 64)
    tokens = masked.batch(masked.per_epoch * 3 - 32, 64)["tokens"]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert inputs.shape == tokens.shape == (64, 64)
    assert causal.per_epoch == 15_625_000_000
    assert peak_bytes < 2_000_000  # an index of the windows would have 125 GB
    assert time.process_time() - used_before < 1.0  # about 0.02 s


def test_a_stream_of_several_files_gives_the_samples_of_one() -> None:
    joined = JoinedStream([stream(1000)[:10], stream(1000)[10:11], stream(1000)[11:]])
    for length in (16, 300, 1500):
        one, several = (TrainingWindows(whole, length, seed=1).batch(0, 90) for whole in (stream(1000), joined))
        assert np.array_equal(one, several)
        read, whole = (list(ValidationWindows(each, length).batches(7)) for each in (joined, stream(1000)))
        assert all(np.array_equal(batch, other) for batch, other in zip(read, whole, strict=True))
