"""The `model` section: one transformer block with options, from GPT-2 to Llama, and BERT."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from megalith.recipe.base import Dimension, Section

Layers = Annotated[int, Field(gt=0, le=4_000)]


class ModelConfig(Section):
    """The model's shape. Without `num_layers`, `hidden_size` and `num_heads`, the plan chooses all three."""

    family: Literal["gpt", "bert"] = "gpt"
    """gpt: causal language model. bert: masked language model with a sentence-order head."""
    num_layers: Layers | None = None
    hidden_size: Dimension | None = None
    num_heads: Dimension | None = None
    """Attention heads of the queries."""
    num_kv_heads: Dimension | None = None
    """Heads of keys and values; fewer than `num_heads` is grouped-query attention. Default: `num_heads`."""
    ffn_hidden_size: Dimension | None = None
    """Width of the MLP. Default: 4 × hidden_size."""
    sequence_length: Dimension = 1024
    """Tokens of context."""
    vocab_size: Dimension = 50257
    """Entries of the tokenizer, before padding."""
    vocab_multiple: Dimension = 128
    """The embedding is padded to a multiple of this, which does not depend on tensor parallelism."""
    positions: Literal["learned", "rotary", "relative"] = "learned"
    """relative: Transformer-XL's (Gopher, Chinchilla)."""
    rotary_base: PositiveFloat = 10000.0
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    layer_norm: Literal["pre", "post"] = "pre"
    """pre: before attention and MLP (Megatron-LM, Figure 7b). post: the original BERT's."""
    activation: Literal["gelu", "swiglu"] = "gelu"
    bias: bool = True
    """Biases in linear layers (and in LayerNorm)."""
    tie_embeddings: bool = True
    """The output projection shares the token embedding's weights."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    init_std: PositiveFloat | None = None
    """Standard deviation of the initial weights. Default: √(1 / (3 · hidden_size)) (MT-NLG §3.2)."""

    @model_validator(mode="after")
    def _shape_is_whole_or_absent(self) -> Self:
        shape = {
            "num_layers": self.num_layers, "hidden_size": self.hidden_size, "num_heads": self.num_heads
        }  # fmt: skip
        missing = [name for name, value in shape.items() if value is None]
        if 0 < len(missing) < 3:
            given = [name for name in shape if name not in missing]
            raise ValueError(
                f"{' and '.join(given)} given without {' and '.join(missing)}: give all three, or none and the plan "
                "chooses them for the budget"
            )
        if self.hidden_size and self.num_heads and self.hidden_size % self.num_heads:
            divisors = _divisors_near(self.hidden_size, self.num_heads)
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be split over num_heads {self.num_heads}; "
                f"try num_heads {divisors}"
            )
        if self.num_heads and self.num_kv_heads and self.num_heads % self.num_kv_heads:
            divisors = _divisors_near(self.num_heads, self.num_kv_heads)
            raise ValueError(
                f"num_heads {self.num_heads} cannot share num_kv_heads {self.num_kv_heads}; try num_kv_heads {divisors}"
            )
        if self.positions == "rotary" and self.is_sized and (self.head_dim % 2):
            raise ValueError(f"rotary positions want an even head size, and hidden_size / num_heads is {self.head_dim}")
        if self.family == "bert" and self.positions != "learned":
            raise ValueError(f"a bert has learned positions, not {self.positions}")
        return self

    @property
    def is_sized(self) -> bool:
        """Whether the shape is known (given, or chosen by a plan)."""
        return self.num_layers is not None

    @property
    def layers(self) -> int:
        return _known(self.num_layers)

    @property
    def hidden(self) -> int:
        return _known(self.hidden_size)

    @property
    def heads(self) -> int:
        return _known(self.num_heads)

    @property
    def kv_heads(self) -> int:
        return self.num_kv_heads or self.heads

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def ffn_hidden(self) -> int:
        return self.ffn_hidden_size or 4 * self.hidden

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def weight_std(self) -> float:
        return self.init_std or math.sqrt(1 / (3 * self.hidden))


def _known(value: int | None) -> int:
    if value is None:
        raise ValueError("this model has no shape yet: the plan chooses it")
    return value


def _divisors_near(number: int, wanted: int, count: int = 6) -> str:
    """The divisors of `number` nearest to `wanted`, in words."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = {*small, *(number // d for d in small)}
    near = sorted(sorted(divisors, key=lambda d: abs(d - wanted))[:count])
    return ", ".join(map(str, near[:-1])) + f" or {near[-1]}" if len(near) > 1 else str(near[0])
