"""The model against a second one, written out in loops over heads and tokens, in fp64 and with its gradients."""

import math

import pytest
import torch
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.errors import UnsupportedError
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig

SHAPE = {
    "num_layers": 2,
    "hidden_size": 12,
    "num_heads": 4,
    "vocab_size": 13,
    "vocab_multiple": 8,
    "sequence_length": 7,
}
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
ALL = pytest.mark.parametrize("config", [GPT2, LLAMA, MIXED], ids=["gpt2", "llama", "mixed"])

Weights = dict[str, Tensor]


def oracle_logits(config: ModelConfig, w: Weights, tokens: list[int]) -> Tensor:
    """Logits (T, vocab_size) of one sequence."""
    rows = [w["token_embedding.weight"][token] for token in tokens]
    if config.positions == "learned":
        rows = [row + w["position_embedding.weight"][place] for place, row in enumerate(rows)]
    x = torch.stack(rows)  # (T, E)
    for layer in range(config.layers):
        own = {
            name.removeprefix(f"layers.{layer}."): value
            for name, value in w.items()
            if name.startswith(f"layers.{layer}.")
        }
        x = x + oracle_attention(config, own, oracle_norm(config, own, "attention_norm", x))
        x = x + oracle_mlp(config, own, oracle_norm(config, own, "mlp_norm", x))
    x = oracle_norm(config, w, "final_norm", x)
    output = w["token_embedding.weight"] if config.tie_embeddings else w["output.weight"]
    return (x @ output.T)[:, : config.vocab_size]


def oracle_norm(config: ModelConfig, w: Weights, name: str, x: Tensor) -> Tensor:
    if config.norm == "rmsnorm":
        return x / ((x**2).mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"]
    return normed + w[f"{name}.bias"] if config.bias else normed


def oracle_linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def oracle_attention(config: ModelConfig, w: Weights, x: Tensor) -> Tensor:
    size = config.head_dim
    q, k, v = (oracle_linear(w, f"attention.{name}", x) for name in ("query", "key", "value"))
    heads = []
    for head in range(config.heads):
        shared = head * config.kv_heads // config.heads
        own = slice(head * size, (head + 1) * size)
        common = slice(shared * size, (shared + 1) * size)
        rows = []
        for place in range(len(x)):
            query = oracle_turn(config, q[place, own], place)
            scores = torch.stack(
                [query @ oracle_turn(config, k[past, common], past) for past in range(place + 1)]
            ) / math.sqrt(size)
            shares = scores.exp() / scores.exp().sum()
            rows.append(sum(share * v[past, common] for past, share in enumerate(shares)))
        heads.append(torch.stack(rows))
    return oracle_linear(w, "attention.output", torch.cat(heads, dim=-1))


def oracle_turn(config: ModelConfig, x: Tensor, place: int) -> Tensor:
    """Rotary positions as complex numbers: dimension i is the real part, i + D/2 the imaginary part."""
    if config.positions != "rotary":
        return x
    half = config.head_dim // 2
    turns = torch.tensor([config.rotary_base ** (-2 * i / config.head_dim) for i in range(half)], dtype=x.dtype)
    turned = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half, dtype=x.dtype), place * turns)
    return torch.cat([turned.real, turned.imag])


def oracle_mlp(config: ModelConfig, w: Weights, x: Tensor) -> Tensor:
    up = oracle_linear(w, "mlp.up", x)
    if config.activation == "swiglu":
        gate = oracle_linear(w, "mlp.gate", x)
        return oracle_linear(w, "mlp.down", gate / (1 + (-gate).exp()) * up)
    bent = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
    return oracle_linear(w, "mlp.down", bent)


def trained_looking(config: ModelConfig) -> GPT:
    """A model whose norms and biases are not at their neutral values, in fp64."""
    model = GPT(config).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
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
    loss = model.loss(tokens, targets)
    (loss / 5).backward()
    weights = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    expected = torch.zeros((), dtype=torch.float64)
    for sequence, wanted in zip(tokens.tolist(), targets.tolist(), strict=True):
        for row, target in zip(oracle_logits(config, weights, sequence), wanted, strict=True):
            if target != -100:
                expected = expected + row.exp().sum().log() - row[target]
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
    model.loss(tokens, tokens).backward()
    assert torch.count_nonzero(model.output.weight.grad[LLAMA.vocab_size :]) == 0


def test_shorter_sequences_than_the_context_are_taken() -> None:
    for config in (GPT2, LLAMA):
        model, tokens = trained_looking(config), some_tokens(config)
        torch.testing.assert_close(model(tokens[:, :3])[..., :13], model(tokens)[:, :3, :13])


def test_bf16_products_leave_the_loss_near_that_of_fp32_and_the_gradients_in_fp32() -> None:
    config = ModelConfig(**{**SHAPE, "hidden_size": 64, "vocab_size": 300, "sequence_length": 64})
    model = GPT(config)
    initialise(model, 0)
    tokens = some_tokens(config, batch=8)
    plain = model.loss(tokens, tokens)
    plain.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(tokens, tokens)
    loss.backward()
    # bf16 rounds to 2^-9; each of 512 losses is off by that much of a logit of size 1 or less, mostly cancelling
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=1e-3)
    whole = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32
        assert (parameter.grad - gradients[name]).norm() < 0.01 * whole, name


def test_the_loss_needs_no_gradients() -> None:
    model, tokens = trained_looking(GPT2), some_tokens(GPT2)
    with torch.no_grad():
        alone = model.loss(tokens, tokens)
    torch.testing.assert_close(alone, model.loss(tokens, tokens).detach(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("model.positions", ModelConfig(**SHAPE, positions="relative")),
        ("model.family", ModelConfig(**SHAPE, family="bert")),
        ("model.layer_norm", ModelConfig(**SHAPE, layer_norm="post")),
    ],
)
def test_what_is_only_planned_is_refused_by_the_recipe_s_own_key(key: str, config: ModelConfig) -> None:
    with pytest.raises(UnsupportedError, match="can be planned, not yet trained") as raised:
        GPT(config)
    assert raised.value.where == key
