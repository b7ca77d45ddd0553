"""Learning rates and batch sizes as functions of the tokens consumed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megalith.batches import batch_size
from megalith.errors import RecipeError
from megalith.recipe import BatchRamp, TrainConfig
from megalith.training.data import batches
from megalith.training.lr_schedule import learning_rate

BASE = TrainConfig(tokens=1000, learning_rate=1.0, minimum_learning_rate=0.1, warmup_tokens=100)


def with_schedule(name: str, **more: object) -> TrainConfig:
    return TrainConfig.model_validate(BASE.model_dump() | {"schedule": name} | more)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "wsd", "inverse_sqrt"])
def test_every_schedule_warms_up_in_a_straight_line_to_the_peak(name: str) -> None:
    train = with_schedule(name)
    assert [learning_rate(train, tokens) for tokens in (1, 50, 100)] == pytest.approx([0.01, 0.5, 1.0])


@pytest.mark.parametrize(
    ("name", "at_325", "at_550", "at_900", "at_1000"),
    [
        ("cosine", 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2, 0.55, 0.1 + 0.9 * 0.030153689607, 0.1),
        ("linear", 0.775, 0.55, 0.2, 0.1),
        ("constant", 1.0, 1.0, 1.0, 1.0),
        ("wsd", 1.0, 1.0, 0.55, 0.1),
        ("inverse_sqrt", math.sqrt(100 / 325), math.sqrt(100 / 550), 1 / 3, math.sqrt(0.1)),
    ],
)
def test_schedules_take_their_known_values(
    name: str, at_325: float, at_550: float, at_900: float, at_1000: float
) -> None:
    train = with_schedule(name)
    rates = [learning_rate(train, tokens) for tokens in (325, 550, 900, 1000)]
    assert rates == pytest.approx([at_325, at_550, at_900, at_1000])


def test_the_decay_may_end_before_the_run_and_the_minimum_holds_after_it() -> None:
    for name in ("cosine", "linear", "wsd"):
        train = with_schedule(name, decay_tokens=600)
        assert learning_rate(train, 599) > 0.1
        assert [learning_rate(train, tokens) for tokens in (600, 800, 5000)] == pytest.approx([0.1] * 3)


def test_defaults_are_two_percent_of_warmup_and_a_tenth_of_the_peak() -> None:
    train = TrainConfig(tokens=1000, learning_rate=1.0)
    assert learning_rate(train, 10) == pytest.approx(0.5)
    assert learning_rate(train, 1000) == pytest.approx(0.1)


def test_inverse_sqrt_without_warmup_is_refused() -> None:
    with pytest.raises(RecipeError, match="warmup_tokens"):
        learning_rate(with_schedule("inverse_sqrt", warmup_tokens=0), 5)


def test_the_ramp_of_mt_nlg_spends_its_tokens_evenly_over_its_sizes() -> None:
    ramp = BatchRamp(start=32, increment=32, tokens=12_000_000_000)
    train = TrainConfig(tokens=270_000_000_000, global_batch_size=1920, batch_ramp=ramp)
    assert batch_size(train, 0) == 32
    assert batch_size(train, 6_000_000_000) == 32 + 32 * 29
    assert batch_size(train, 11_999_999_999) == 1888
    assert batch_size(train, 12_000_000_000) == 1920


@given(
    start=st.integers(1, 6),
    increment=st.integers(1, 4),
    sizes=st.integers(0, 6),
    ramp_tokens=st.integers(1, 3000),
    tokens=st.integers(1, 5000),
)
def test_batches_follow_each_other_without_gap_up_to_the_tokens(
    start: int, increment: int, sizes: int, ramp_tokens: int, tokens: int
) -> None:
    ramp = BatchRamp(start=start, increment=increment, tokens=ramp_tokens)
    train = TrainConfig(tokens=tokens, global_batch_size=start + increment * sizes, batch_ramp=ramp)
    steps = list(batches(train, 16))
    sample = 0
    for number, batch in enumerate(steps, start=1):
        assert (batch.step, batch.first_sample) == (number, sample)
        assert start <= batch.sequences <= train.global_batch_size
        sample += batch.sequences
        assert batch.tokens == sample * 16
    assert [batch.sequences for batch in steps] == sorted(batch.sequences for batch in steps)
    assert steps[-1].tokens >= tokens > steps[-1].tokens - steps[-1].sequences * 16
