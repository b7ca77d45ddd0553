"""A second transformer, written out in loops over heads and tokens: the oracle of the models, with gradients."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from megalith.model import Transformer
from megalith.recipe import ModelConfig

Weights = dict[str, Tensor]
SHAPE = {
    "num_layers": 2,
    "hidden_size": 12,
    "num_heads": 4,
    "vocab_size": 13,
    "vocab_multiple": 8,
    "sequence_length": 7,
}


def embeddings(config: ModelConfig, w: Weights, tokens: Sequence[int]) -> Tensor:
    """Token and position embeddings of one sequence, (T, E)."""
    rows = [w["token_embedding.weight"][token] for token in tokens]
    if config.positions == "learned":
        rows = [row + w["position_embedding.weight"][place] for place, row in enumerate(rows)]
    return torch.stack(rows)


def layers(config: ModelConfig, w: Weights, x: Tensor, seen: Callable[[int], range]) -> Tensor:
    """All layers, (T, E) to (T, E); `seen` gives the places that a place looks at."""
    for layer in range(config.layers):
        start = f"layers.{layer}."
        own = {name.removeprefix(start): value for name, value in w.items() if name.startswith(start)}
        if config.layer_norm == "pre":
            before = x
            x = x + attention(config, own, norm(config, own, "attention_norm", x), seen)
            x = x + mlp(config, own, norm(config, own, "mlp_norm", before if config.parallel_residual else x))
        elif config.layer_norm == "reordered":
            x = x + norm(config, own, "attention_norm", attention(config, own, x, seen))
            x = x + norm(config, own, "mlp_norm", mlp(config, own, x))
        else:
            x = norm(config, own, "attention_norm", x + attention(config, own, x, seen))
            x = norm(config, own, "mlp_norm", x + mlp(config, own, x))
    return x if config.layer_norm == "post" else norm(config, w, "final_norm", x)


def norm(config: ModelConfig, w: Weights, name: str, x: Tensor) -> Tensor:
    if config.norm == "rmsnorm":
        return rms_norm(config, w[f"{name}.weight"], x)
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / ((centred**2).mean(-1, keepdim=True) + config.norm_epsilon).sqrt() * w[f"{name}.weight"]
    return normed + w[f"{name}.bias"] if config.bias else normed


def rms_norm(config: ModelConfig, weight: Tensor, x: Tensor) -> Tensor:
    return x / ((x**2).mean(-1, keepdim=True) + config.norm_epsilon).sqrt() * weight


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))


def attention(config: ModelConfig, w: Weights, x: Tensor, seen: Callable[[int], range]) -> Tensor:
    size = config.head_dim
    q, k, v = (linear(w, f"attention.{name}", x) for name in ("query", "key", "value"))
    if config.query_key_norm == "whole":
        q, k = (rms_norm(config, w[f"attention.{name}_norm.weight"], x) for name, x in (("query", q), ("key", k)))
    heads = []
    for head in range(config.heads):
        shared = head * config.kv_heads // config.heads
        own = slice(head * size, (head + 1) * size)
        common = slice(shared * size, (shared + 1) * size)
        rows = []
        for place in range(len(x)):
            query = turn(config, normed(config, w, "query", q[place, own]), place)
            keys = [turn(config, normed(config, w, "key", k[other, common]), other) for other in seen(place)]
            scores = torch.stack([query @ key for key in keys]) / math.sqrt(size)
            shares = scores.exp() / scores.exp().sum()
            mixed = [share * v[other, common] for share, other in zip(shares, seen(place), strict=True)]
            rows.append(torch.stack(mixed).sum(0))
        heads.append(torch.stack(rows))
    return linear(w, "attention.output", torch.cat(heads, dim=-1))


def normed(config: ModelConfig, w: Weights, name: str, x: Tensor) -> Tensor:
    """One head, (D) to (D)."""
    return rms_norm(config, w[f"attention.{name}_norm.weight"], x) if config.query_key_norm == "head" else x


def turn(config: ModelConfig, x: Tensor, place: int) -> Tensor:
    """Rotary positions as complex numbers: dimension i is the real part, i + R/2 the imaginary part."""
    if config.positions != "rotary":
        return x
    width = int(config.head_dim * config.rotary_fraction)
    half = width // 2
    turns = torch.tensor([config.rotary_base ** (-2 * i / width) for i in range(half)], dtype=x.dtype)
    turned = torch.complex(x[:half], x[half:width]) * torch.polar(torch.ones(half, dtype=x.dtype), place * turns)
    return torch.cat([turned.real, turned.imag, x[width:]])


def mlp(config: ModelConfig, w: Weights, x: Tensor) -> Tensor:
    up = linear(w, "mlp.up", x)
    if config.activation == "swiglu":
        gate = linear(w, "mlp.gate", x)
        return linear(w, "mlp.down", gate / (1 + (-gate).exp()) * up)
    if config.activation == "gelu_exact":
        return linear(w, "mlp.down", up * (1 + torch.erf(up / math.sqrt(2))) / 2)
    return linear(w, "mlp.down", gelu(up))


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def nats(row: Tensor, target: int) -> Tensor:
    """−log softmax(row)[target]."""
    return row.exp().sum().log() - row[target]


def make_trained_looking(model: Transformer) -> None:
    """Give the model weights whose norms and biases are not at their neutral values, in fp64."""
    model.double()
    model.activation_dtype = torch.float64
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)


def narrow(model: Transformer) -> None:
    """Have the layers and heads compute in bf16, as training does; embeddings stay as they are."""
    for name, module in model.named_children():
        if "embedding" not in name and name != "output":
            module.to(torch.bfloat16)
    model.activation_dtype = torch.bfloat16


def own_weights(model: Transformer) -> Weights:
    """Copies of the model's weights that collect gradients of their own."""
    return {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
