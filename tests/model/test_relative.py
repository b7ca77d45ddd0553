"""Relative positions against Transformer-XL's four terms, written out pair by pair (1901.02860 §3.3)."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.inference import decoder, kv_cache
from megalith.model import GPT, initialise
from megalith.model.attention import Attention
from megalith.recipe import ModelConfig

SHAPE = {
    "num_layers": 2,
    "hidden_size": 12,
    "num_heads": 4,
    "sequence_length": 9,
    "vocab_size": 23,
    "vocab_multiple": 1,
    "norm": "rmsnorm",
    "positions": "relative",
}


def config(**changes: object) -> ModelConfig:
    return ModelConfig.model_validate(SHAPE | changes)


def four_terms(attention: Attention, x: Tensor) -> Tensor:
    """The same attention over (B, T, E), a pair of tokens at a time."""
    model, at = attention.config, attention.relative
    batch, length, width = x.shape
    group, size = model.heads // model.kv_heads, model.head_dim
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    rates = [10000 ** (-2 * pair / width) for pair in range(width // 2)]
    found = torch.zeros(batch, length, model.query_width, dtype=x.dtype)
    for b in range(batch):
        for head in range(model.heads):
            own, shared = (slice(n * size, (n + 1) * size) for n in (head, head // group))
            u, w = at.content_bias[own], at.position_bias[own]
            for i in range(length):
                scores = []
                for j in range(i + 1):
                    wave = [f((i - j) * rate) for f in (math.sin, math.cos) for rate in rates]
                    r = at.weight[own] @ torch.tensor(wave, dtype=x.dtype)
                    terms = q[b, i, own] @ k[b, j, shared], q[b, i, own] @ r, u @ k[b, j, shared], w @ r
                    scores.append(sum(terms) / math.sqrt(size))
                p = torch.softmax(torch.stack(scores), 0)
                found[b, i, own] = p @ v[b, : i + 1, shared]
    return attention.output(found)


def drawn(model: torch.nn.Module) -> None:
    """Every parameter, u and v too, as large as scores that differ."""
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(0.0, 0.5, generator=random)


@pytest.mark.parametrize("key_heads", [4, 2])
def test_scores_are_the_sum_of_the_four_terms(key_heads: int) -> None:
    attention = Attention(config(num_kv_heads=key_heads)).double()
    drawn(attention)
    x = torch.randn(2, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    inputs = [x, *attention.parameters()]
    found, expected = attention(x), four_terms(attention, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    outer = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(2))
    gradients = [torch.autograd.grad((each * outer).sum(), inputs) for each in (found, expected)]
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-11)


def test_parameters_are_those_of_the_arithmetic() -> None:
    model = config(head_size=5, bias=False)
    assert sum(each.numel() for each in GPT(model).parameters()) == parameters(model).total


def test_u_and_v_begin_at_zero_and_w_is_drawn() -> None:
    model = GPT(config())
    initialise(model, model.config, seed=3)
    first = model.numbered_layers[0].attention.relative
    assert not first.content_bias.any()
    assert not first.position_bias.any()
    assert float(first.weight.detach().std()) == pytest.approx(model.config.weight_std, rel=0.2)


def test_a_token_alone_or_in_chunks_over_a_cache_is_what_it_is_in_a_whole_pass() -> None:
    model = GPT(config(num_kv_heads=2)).eval()
    drawn(model)
    tokens = torch.randint(23, (9,), generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        whole = model.features(tokens[None])[0]
        flight = kv_cache.Flight()
        decoder.with_caches(model, flight)
        shape = kv_cache.CacheShape(layers=2, heads=2, head_dim=3, dtype=torch.float32, window=None)
        caches = [kv_cache.KVCache(shape, 9) for _ in range(2)]
        at = [0, 0]
        for counts in ((4, 3), (1, 2), (1, 1), (2, 1)):
            segments = [kv_cache.Segment(c, s, n) for c, s, n in zip(caches, at, counts, strict=True)]
            places = [place for s, n in zip(at, counts, strict=True) for place in range(s, s + n)]
            flight.board(segments)
            found = model.features(tokens[places][None], torch.tensor([places]))[0]
            torch.testing.assert_close(found, whole[places], rtol=1e-4, atol=1e-5)
            at = [s + n for s, n in zip(at, counts, strict=True)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sliding_window": 4}, "relative positions are of every distance"),
        ({"hidden_size": 9, "num_heads": 3}, "hidden_size 9 is odd"),
        ({"family": "bert"}, "learned positions, not relative"),
    ],
)
def test_what_does_not_go_with_them_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        config(**changes)
