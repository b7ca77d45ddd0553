"""Tokens are drawn from the distribution that is asked for, and from a seed and a place alone."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from megalith.errors import InputError
from megalith.inference import Sampling
from megalith.inference.sampling import choose, distribution, penalised

LOGITS = torch.tensor([0.15, 0.5, 0.05, 0.3]).log()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_p": 0.7}, [0.625, 0.375, 0, 0]),
        ({"top_k": 3, "top_p": 0.53}, [0.625, 0.375, 0, 0]),  # of three, the first has 0.526: the nucleus holds two
        ({"top_k": 3, "top_p": 0.52}, [1, 0, 0, 0]),  # of four it would have 0.5, and the nucleus would hold two
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        ({"top_p": 0.0}, [1, 0, 0, 0]),
        ({"min_p": 0.25}, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        ({"min_p": 0.25, "temperature": 0.5}, [0.25 / 0.34, 0.09 / 0.34, 0, 0]),
        ({"min_p": 1.0}, [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_as_often_as_their_share(asked: dict[str, float], expected: list[float]) -> None:
    sampling = Sampling(**asked)
    counts = Counter(choose(LOGITS, sampling, (), 7, place) for place in range(4000))
    for token, share in zip([1, 3, 0, 2], expected, strict=True):
        assert counts[token] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000) + 1e-9)


@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([3, 300, 1000]),
    temperature=st.sampled_from([0.3, 1.0, 5.0]),
    top_k=st.sampled_from([None, 1, 20, 5000]),
    top_p=st.sampled_from([None, 0.0, 0.5, 0.9, 0.9999, 1.0]),
    min_p=st.sampled_from([None, 0.05, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_filters_are_those_of_their_definitions(
    seed: int, size: int, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    logits = 2 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    found_ids, found = distribution(logits, Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p))
    shares = torch.zeros(size, dtype=torch.float64)
    shares[found_ids if found_ids is not None else slice(None)] = found
    torch.testing.assert_close(shares / shares.sum(), _one_by_one(logits, temperature, top_k, top_p, min_p))


def _one_by_one(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> Tensor:
    """Each filter over a sorted list, in plain Python."""
    weights = {token: math.exp(value / temperature) for token, value in enumerate(logits.double().tolist())}
    ranked = sorted(weights, key=lambda token: -weights[token])[:top_k]
    if top_p is not None:
        whole, reached, kept = sum(weights[token] for token in ranked), 0.0, []
        for token in ranked:
            if kept and reached >= top_p:
                break
            kept.append(token)
            reached += weights[token] / whole
        ranked = kept
    ranked = [token for token in ranked if weights[token] >= (min_p or 0.0) * weights[ranked[0]]]
    shares = torch.zeros(len(logits), dtype=torch.float64)
    for token in ranked:
        shares[token] = weights[token] / sum(weights[one] for one in ranked)
    return shares


def test_filters_and_penalty_agree_with_transformers() -> None:
    processors = pytest.importorskip("transformers.generation.logits_process", reason="transformers is not installed")
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(3))
    seen = torch.tensor([5, 17, 999, 0])
    scores = logits[None]
    for processor in (
        processors.RepetitionPenaltyLogitsProcessor(1.3),
        processors.TemperatureLogitsWarper(0.7),
        processors.TopKLogitsWarper(300),
        processors.TopPLogitsWarper(0.9),
        processors.MinPLogitsWarper(0.05),
    ):
        scores = processor(seen[None], scores)
    ids, shares = distribution(
        penalised(logits, seen, 1.3), Sampling(temperature=0.7, top_k=300, top_p=0.9, min_p=0.05)
    )
    assert ids is not None
    found = torch.zeros(1000, dtype=torch.float64)
    found[ids] = shares / shares.sum()
    assert 5 < int((found > 0).sum()) < 300
    torch.testing.assert_close(found, scores[0].double().softmax(-1), rtol=1e-5, atol=1e-8)


def test_a_penalty_makes_what_was_seen_less_likely_whatever_its_sign() -> None:
    logits = torch.tensor([2.0, 1.9, -1.0, -1.1])
    greedy = Sampling(temperature=0, repetition_penalty=1.5)
    assert choose(logits, greedy, (), 0, 0) == 0
    assert choose(logits, greedy, {0}, 0, 0) == 1
    assert choose(torch.tensor([-1.0, -1.1]), greedy, {0}, 0, 0) == 1
    assert penalised(logits, torch.tensor([0, 2]), 2.0).tolist() == pytest.approx([1.0, 1.9, -2.0, -1.1])


def test_a_draw_depends_on_the_seed_and_the_place() -> None:
    logits = torch.zeros(1000)
    drawn = [choose(logits, Sampling(), (), seed, place) for seed in (1, 2) for place in range(20)]
    again = [choose(logits, Sampling(), (), seed, place) for seed in (1, 2) for place in range(20)]
    assert drawn == again
    assert len(set(drawn)) > 30


@pytest.mark.parametrize("temperature", [1e300, 1.7e308])
def test_a_huge_temperature_draws_evenly(temperature: float) -> None:
    sampling = Sampling(temperature=temperature)
    counts = Counter(choose(torch.tensor([9.0, 0.0]), sampling, (), 0, place) for place in range(1000))
    assert abs(counts[0] - 500) < 4 * math.sqrt(250)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", 0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("logprobs", -1),
        ("stop", ("a", "")),
    ],
)
def test_a_setting_out_of_range_is_refused(setting: str, value: float) -> None:
    with pytest.raises(InputError) as told:
        Sampling(**{setting: value})
    assert told.value.where == setting
    assert told.value.mend
