"""The model against a second one, written out in loops over heads and tokens, in fp64 and with its gradients."""

import pytest
import torch
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from tests.model import loops
from tests.model.loops import SHAPE, Weights

GPT2 = ModelConfig(**SHAPE, dropout=0.0)
LLAMA = ModelConfig(
    **{**SHAPE, "hidden_size": 16},
    num_kv_heads=2,
    ffn_hidden_size=20,
    positions="rotary",
    rotary_base=100.0,
    norm="rmsnorm",
    activation="swiglu",
    bias=False,
    tie_embeddings=False,
)
MIXED = ModelConfig(**SHAPE, norm="layernorm", bias=False, activation="swiglu", num_kv_heads=1)
POST = ModelConfig(**SHAPE, layer_norm="post")
QWEN3 = LLAMA.model_copy(update={"query_key_norm": "head", "head_size": 6, "norm_epsilon": 1e-2, "qkv_bias": True})
OLMO2 = LLAMA.model_copy(update={"query_key_norm": "whole", "layer_norm": "reordered", "qkv_bias": False})
PYTHIA = ModelConfig(
    **{**SHAPE, "hidden_size": 32},
    positions="rotary",
    rotary_fraction=0.25,
    parallel_residual=True,
    activation="gelu_exact",
    tie_embeddings=False,
)
MISTRAL = LLAMA.model_copy(update={"sliding_window": 3})
CONFIGS = {
    "gpt2": GPT2, "llama": LLAMA, "mixed": MIXED, "post-norm": POST, "qwen3": QWEN3, "olmo2": OLMO2, "pythia": PYTHIA,
    "mistral": MISTRAL, "window of one": GPT2.model_copy(update={"sliding_window": 1}),
    "window of the context": GPT2.model_copy(update={"sliding_window": 7}),
}  # fmt: skip
ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def oracle_logits(config: ModelConfig, w: Weights, tokens: list[int]) -> Tensor:
    """Logits (T, vocab_size) of one sequence."""
    window = config.sliding_window or len(tokens)
    x = loops.layers(
        config, w, loops.embeddings(config, w, tokens), seen=lambda place: range(max(0, place + 1 - window), place + 1)
    )
    output = w["token_embedding.weight"] if config.tie_embeddings else w["output.weight"]
    return (x @ output.T)[:, : config.vocab_size]


def trained_looking(config: ModelConfig) -> GPT:
    model = GPT(config)
    loops.make_trained_looking(model)
    return model


def some_tokens(config: ModelConfig, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(config.vocab_size, (batch, config.sequence_length), generator=generator)


@ALL
def test_logits_are_those_of_a_model_written_out_in_loops(config: ModelConfig) -> None:
    model, tokens = trained_looking(config), some_tokens(config)
    logits = model(tokens)
    for row, sequence in zip(logits, tokens.tolist(), strict=True):
        expected = oracle_logits(config, dict(model.named_parameters()), sequence)
        # fp64 has 16 digits; sums of at most 20 terms lose two or three of them
        torch.testing.assert_close(row[:, : config.vocab_size], expected, rtol=1e-11, atol=1e-11)


@ALL
def test_loss_and_every_gradient_are_those_of_the_loops(config: ModelConfig) -> None:
    model, tokens = trained_looking(config), some_tokens(config)
    targets = tokens.roll(-1, dims=1).clone()
    targets[0, 2:4] = -100
    (loss,) = model(tokens, targets)
    (loss / 5).backward()
    weights = loops.own_weights(model)
    expected = torch.zeros((), dtype=torch.float64)
    for sequence, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        for row, target in zip(oracle_logits(config, weights, sequence), wanted, strict=True):
            if target != -100:
                expected = expected + loops.nats(row, target)
    (expected / 5).backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-9, atol=1e-10, msg=name)


@ALL
def test_parameters_are_as_many_as_the_arithmetic_says(config: ModelConfig) -> None:
    counted = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert counted == parameters(config).total


@ALL
def test_a_token_never_sees_what_comes_after_it(config: ModelConfig) -> None:
    model, tokens = trained_looking(config), some_tokens(config)
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 1) % config.vocab_size
    before, after = model(tokens)[..., : config.vocab_size], model(other)[..., : config.vocab_size]
    torch.testing.assert_close(before[:, :4], after[:, :4], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_padded_vocabulary_has_no_probability_and_no_gradient() -> None:
    model, tokens = trained_looking(LLAMA), some_tokens(LLAMA)
    assert LLAMA.padded_vocab_size == 16
    assert torch.isneginf(model(tokens)[..., LLAMA.vocab_size :]).all()
    model(tokens, tokens).backward()
    assert torch.count_nonzero(model.output.weight.grad[LLAMA.vocab_size :]) == 0


def test_shorter_sequences_than_the_context_are_taken() -> None:
    for config in (GPT2, LLAMA):
        model, tokens = trained_looking(config), some_tokens(config)
        torch.testing.assert_close(model(tokens[:, :3])[..., :13], model(tokens)[:, :3, :13])


@ALL
def test_positions_are_those_of_the_tokens_and_count_from_0_without_being_said(config: ModelConfig) -> None:
    model, tokens = trained_looking(config), some_tokens(config)
    places = torch.arange(config.sequence_length).expand(2, -1)
    plain = model.features(tokens)
    torch.testing.assert_close(model.features(tokens, places), plain, rtol=0, atol=0)
    moved = torch.stack([places[0], places[0].flip(0)])
    found = model.features(tokens, moved)
    torch.testing.assert_close(found[0], plain[0], rtol=0, atol=0)
    assert not torch.allclose(found[1], plain[1])


@ALL
def test_a_sequence_may_come_in_chunks_each_at_its_place(config: ModelConfig) -> None:
    """As inference does: keys and values of the chunks before stand beside those of the chunk."""
    model, tokens = trained_looking(config), some_tokens(config)
    whole = model.features(tokens)
    for layer in model.numbered_layers.values():
        layer.attention.core = Kept(config.sliding_window)
    places = torch.arange(config.sequence_length).expand(2, -1)
    chunks = [model.features(tokens[:, here], places[:, here]) for here in (slice(0, 3), slice(3, 4), slice(4, None))]
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=1e-11, atol=1e-11)


class Kept(torch.nn.Module):
    """Attention over all keys that have come so far."""

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        self.k = torch.cat([self.k, k], dim=2) if hasattr(self, "k") else k
        self.v = torch.cat([self.v, v], dim=2) if hasattr(self, "v") else v
        group, new, all_ = q.shape[1] // k.shape[1], q.shape[2], self.k.shape[2]
        scores = q @ self.k.repeat_interleave(group, 1).transpose(2, 3) / q.shape[-1] ** 0.5
        hidden = torch.ones(new, all_, dtype=torch.bool)
        hidden = hidden.triu(all_ - new + 1) | hidden.tril(all_ - new - (self.window or all_))
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ self.v.repeat_interleave(group, 1)


def test_bf16_layers_leave_the_loss_and_the_gradients_near_those_of_fp32() -> None:
    config = ModelConfig(**{**SHAPE, "hidden_size": 64, "vocab_size": 300, "sequence_length": 64})
    model, narrow = GPT(config), GPT(config)
    for each in (model, narrow):
        initialise(each, config, 0)
    loops.narrow(narrow)
    tokens = some_tokens(config, batch=8)
    (loss,), (rough,) = model(tokens, tokens), narrow(tokens, tokens)
    loss.backward()
    rough.backward()
    # bf16 rounds to 2^-9; each of 512 losses is off by that much of a logit of size 1 or less, mostly cancelling
    assert float(rough.detach()) == pytest.approx(float(loss.detach()), rel=1e-3)
    whole = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    for (name, parameter), other in zip(model.named_parameters(), narrow.parameters(), strict=True):
        assert (parameter.grad - other.grad).norm() < 0.01 * whole, name
    assert narrow.token_embedding.weight.grad.dtype == torch.float32


def test_the_loss_needs_no_gradients() -> None:
    model, tokens = trained_looking(GPT2), some_tokens(GPT2)
    with torch.no_grad():
        alone = model(tokens, tokens)
    torch.testing.assert_close(alone, model(tokens, tokens).detach(), rtol=0, atol=0)
