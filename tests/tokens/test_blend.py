"""Blends: each set's share is kept in every prefix and every window, however far into the run."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import InputError
from megalith.tokens import Blend, TrainingWindows
from megalith.tokens.blend import Weight

ROUNDING = 1e-9  # the bound is a float
weights_of_sets = st.lists(st.integers(1, 1000) | st.decimals("0.001", 50, places=3).map(float), min_size=1, max_size=9)


def parts(weights: Sequence[Weight], tokens: int = 200, length: int = 8) -> list[tuple[TrainingWindows, Weight]]:
    """Data sets whose tokens say which set they are of: set i has i × 1000 …"""
    return [
        (TrainingWindows(1000 * number + np.arange(tokens), length, seed=number), weight)
        for number, weight in enumerate(weights)
    ]


def shares(weights: Sequence[Weight]) -> list[Fraction]:
    exact = [Fraction(str(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


@settings(max_examples=80, deadline=None)
@given(weights=weights_of_sets)
def test_every_prefix_has_each_set_to_its_share_within_the_bound_and_in_order(weights: list[Weight]) -> None:
    blend = Blend(parts(weights))
    owners = []
    for sample in range(400):
        dataset, number = blend.locate(sample)
        assert number == owners.count(dataset)
        owners.append(dataset)
    for dataset, share in enumerate(shares(weights)):
        counts = np.cumsum(np.array(owners) == dataset)
        off = np.abs(counts - float(share) * np.arange(1, 401))
        assert off.max() <= blend.most_off + ROUNDING
    assert blend.most_off <= (1 if len(weights) <= 3 else 1.4)


@settings(max_examples=60, deadline=None)
@given(weights=weights_of_sets, first=st.integers(0, 10**15), count=st.integers(1, 300))
def test_every_window_has_each_set_to_its_share_within_twice_the_bound(
    weights: list[Weight], first: int, count: int
) -> None:
    blend = Blend(parts(weights))
    owners = [blend.locate(sample)[0] for sample in range(first, first + count)]
    for dataset, share in enumerate(shares(weights)):
        assert abs(owners.count(dataset) - share * count) <= 2 * blend.most_off + ROUNDING


@settings(max_examples=100, deadline=None)
@given(weights=weights_of_sets, sample=st.integers(0, 10**18))
def test_a_share_is_kept_for_as_long_as_a_run_may_last(weights: list[Weight], sample: int) -> None:
    blend = Blend(parts(weights))
    dataset, number = blend.locate(sample)
    assert abs(number - shares(weights)[dataset] * sample) <= blend.most_off + ROUNDING


@pytest.mark.parametrize("count", [5, 15, 60, 400])
def test_many_sets_are_blended_as_evenly_as_few(count: int) -> None:
    rng = np.random.default_rng(count)
    for spread in (1.0, 0.1):
        weights = [float(round(weight, 9)) + 1e-6 for weight in rng.dirichlet(np.full(count, spread))]
        assert Blend(parts(weights, tokens=2)).most_off < 1.3


def test_two_equal_sets_take_turns_and_one_set_is_itself() -> None:
    assert [Blend(parts([1, 1])).locate(sample)[0] for sample in range(6)] in ([0, 1] * 3, [1, 0] * 3)
    alone = Blend(parts([3]))
    assert [alone.locate(sample) for sample in range(5)] == [(0, sample) for sample in range(5)]
    assert alone.most_off == 0


def test_a_period_has_each_set_exactly_as_often_as_its_weight() -> None:
    weights = [7, 2, 1, 14, 3]
    blend = Blend(parts(weights))
    for first in (0, 27, 27 * 10**12):
        owners = [blend.locate(sample)[0] for sample in range(first, first + 27)]
        assert [owners.count(dataset) for dataset in range(5)] == weights


def test_epochs_are_read_exactly_while_all_sets_are() -> None:
    sets = [TrainingWindows(np.arange(tokens), 8, seed=1) for tokens in (800, 160, 4000)]  # 100, 20, 500 samples
    blend = Blend.of_epochs(list(zip(sets, [1, 2.5, 0.1], strict=True)))
    owners = [blend.locate(sample)[0] for sample in range(100 + 50 + 50)]
    assert [owners.count(dataset) for dataset in range(3)] == [100, 50, 50]


@settings(max_examples=40, deadline=None)
@given(weights=weights_of_sets, cuts=st.lists(st.integers(0, 60), max_size=5), first=st.integers(0, 10**9))
def test_any_way_of_cutting_a_run_into_batches_gives_the_same_samples(
    weights: list[Weight], cuts: list[int], first: int
) -> None:
    blend = Blend(parts(weights))
    read = [blend.batch(first + start, end - start) for start, end in itertools.pairwise([0, *sorted(cuts), 60])]
    whole = blend.batch(first, 60)
    for which in (0, 1):
        assert np.array_equal(np.concatenate([batch[which] for batch in read]), whole[which])


def test_each_sample_is_the_one_that_its_set_has_under_that_number() -> None:
    sets = parts([0.5, 0.3, 0.2])
    blend = Blend(sets)
    inputs, targets = blend.batch(1000, 50)
    for row in range(50):
        dataset, number = blend.locate(1000 + row)
        expected = sets[dataset][0].batch(number, 1)
        assert np.array_equal(inputs[row], expected[0][0])
        assert np.array_equal(targets[row], expected[1][0])


def test_the_order_of_a_blend_is_fixed_for_good() -> None:
    # A run that is resumed by a later version must go on with the same samples: these figures may never change.
    blend = Blend(parts([0.5, 0.25, 0.15, 0.1]))
    assert [blend.locate(sample)[0] for sample in range(20)] == [
        0,
        1,
        2,
        0,
        0,
        1,
        3,
        0,
        0,
        1,
        2,
        0,
        0,
        1,
        3,
        0,
        0,
        1,
        2,
        0,
    ]
    assert blend.locate(10**12) == (0, 500000000000)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="weight of data set 1"):
        Blend(parts([1, weight]))


def test_no_set_and_sets_of_two_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="no data set"):
        Blend([])
    with pytest.raises(InputError, match="sequence lengths 8, 16"):
        Blend([*parts([1]), *parts([1], length=16)])
