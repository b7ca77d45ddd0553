"""Rotary positions (2104.09864) in Llama's layout: the first half of what is rotated is turned against the second half.

Part of each head may be rotated alone (GPT-NeoX), and the rates may be scaled for a longer context: all alike (linear,
2306.15595), by how often they turn over the original length (Llama 3.1), or so with another ramp and a factor on the
result (YaRN, 2309.00071 §3).
"""

import math

import torch
from torch import Tensor

from megalith.recipe import ModelConfig, RotaryScaling

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines: (T, R / 2) each for all sequences, or (B, 1, T, R / 2), where R is what is rotated of a head."""


def rotary(config: ModelConfig, length: int, positions: Tensor | None, like: Tensor, first: int = 0) -> Rotation:
    """Cosine and sine of position × rate, in fp32 or `like`'s wider type, on its device.

    `positions` (B, T) are whole numbers; without them they are first … first + length − 1.
    """
    dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
    if positions is None:
        places = torch.arange(first, first + length, dtype=torch.float64, device=device)
    else:
        places = positions.to(torch.float64).unsqueeze(1)  # (B, 1, T)
    angles = places.unsqueeze(-1) * rates(config, device)  # (…, T, R / 2)
    cosine, sine = angles.cos(), angles.sin()
    factor = attention_factor(config.rotary_scaling)
    if factor != 1.0:
        cosine, sine = cosine * factor, sine * factor
    return cosine.to(dtype), sine.to(dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn pairs (i, i + R/2) of the first R dimensions of each head (B, H, T, D); the type of x is kept."""
    cosine, sine = rotation
    half, rest = cosine.shape[-1], x.shape[-1] - 2 * cosine.shape[-1]
    first, second, *others = torch.split(x, [half, half, rest] if rest else half, dim=-1)  # (B, H, T, R / 2), twice
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine, *others], dim=-1)
    return turned.to(x.dtype)


def rates(config: ModelConfig, device: torch.device | None = None) -> Tensor:
    """Radians that each pair turns from one position to the next, (R / 2) in fp64: base^(−2i / R), scaled."""
    width, scaling = config.rotary_width, config.rotary_scaling
    plain: Tensor = config.rotary_base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    if scaling is None:
        return plain
    if scaling.kind == "linear":
        return plain / scaling.factor
    assert scaling.original_length is not None  # the recipe's own check
    if scaling.kind == "llama3":
        turns = scaling.original_length * plain / (2 * math.pi)
        kept = ((turns - scaling.low_turns) / (scaling.high_turns - scaling.low_turns)).clamp(0.0, 1.0)
    else:
        kept = _yarn_ramp(config, scaling, plain)
    return plain * kept + plain / scaling.factor * (1 - kept)


def attention_factor(scaling: RotaryScaling | None) -> float:
    """The factor of rotated queries and keys (YaRN's √(1/t), 2309.00071 eq. 15); 1 for the other kinds."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    return scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0


def _yarn_ramp(config: ModelConfig, scaling: RotaryScaling, plain: Tensor) -> Tensor:
    """The part of each rate that stays, (R / 2): 1 at high rates, 0 at low ones, between by the number of the pair."""
    last = config.rotary_width - 1

    def pair_of(turns: float) -> float:
        """The pair's number, not whole, that turns so often over the original length."""
        assert scaling.original_length is not None
        radians = 2 * math.pi * turns / scaling.original_length
        return -config.rotary_width * math.log(radians) / (2 * math.log(config.rotary_base))

    first = max(math.floor(pair_of(scaling.high_turns)), 0)
    end = min(math.ceil(pair_of(scaling.low_turns)), last)
    numbers = torch.arange(len(plain), dtype=plain.dtype, device=plain.device)
    return 1 - ((numbers - first) / max(end - first, 1e-3)).clamp(0.0, 1.0)
