"""The `model` section: one transformer block with options, from GPT-2 to Llama, and BERT."""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from megalith.recipe.base import Dimension, Section
from megalith.recipe.rotary import RotaryScaling

Layers = Annotated[int, Field(gt=0, le=4_000)]
_HASH = "its hash"  # a name that no field can have


class ModelConfig(Section):
    """The model's shape. Without `num_layers`, `hidden_size` and `num_heads`, the plan chooses all three."""

    LATER: ClassVar[tuple[str, ...]] = (
        "head_size", "norm_epsilon", "qkv_bias", "query_key_norm", "rotary_fraction", "rotary_scaling",
        "parallel_residual", "sliding_window", "experts", "experts_per_token", "expert_hidden_size", "shared_experts",
        "dense_layers",
    )  # fmt: skip

    family: Literal["gpt", "bert"] = "gpt"
    """gpt: causal language model. bert: masked language model with a sentence-order head."""
    num_layers: Layers | None = None
    hidden_size: Dimension | None = None
    num_heads: Dimension | None = None
    """Attention heads of the queries."""
    num_kv_heads: Dimension | None = None
    """Heads of keys and values; fewer than `num_heads` is grouped-query attention. Default: `num_heads`."""
    head_size: Dimension | None = None
    """Width of a head. Default: hidden_size / num_heads."""
    ffn_hidden_size: Dimension | None = None
    """Width of the MLP. Default: 4 × hidden_size."""
    sequence_length: Dimension = 1024
    """Tokens of context."""
    vocab_size: Dimension = 50257
    """Entries of the tokenizer, before padding."""
    vocab_multiple: Dimension = 128
    """The embedding is padded to a multiple of this, which does not depend on tensor parallelism."""
    positions: Literal["learned", "rotary", "relative"] = "learned"
    """relative: Transformer-XL's (Gopher, Chinchilla), without a memory of earlier segments."""
    rotary_base: PositiveFloat = 10000.0
    rotary_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    """The part of each head, from its first dimension, that is rotated (GPT-NeoX: 0.25)."""
    rotary_scaling: RotaryScaling | None = None
    sliding_window: Dimension | None = None
    """Tokens that a token sees in every layer: itself and those just before it. Default: all before it."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    norm_epsilon: PositiveFloat = 1e-5
    layer_norm: Literal["pre", "post", "reordered"] = "pre"
    """pre: before attention and MLP (Megatron-LM, Figure 7b). post: the original BERT's. reordered: on what attention
    and MLP give, before it is added (OLMo 2, 2501.00656)."""
    query_key_norm: Literal["none", "head", "whole"] = "none"
    """RMSNorm on queries and keys. head: each head by itself (Qwen3). whole: all heads at once (OLMo 2)."""
    parallel_residual: bool = False
    """Attention and MLP read the same residual stream, and both are added to it (GPT-NeoX)."""
    activation: Literal["gelu", "gelu_exact", "swiglu"] = "gelu"
    """gelu: GPT-2's tanh form. gelu_exact: by the error function."""
    bias: bool = True
    """Biases in linear layers (and in LayerNorm)."""
    qkv_bias: bool | None = None
    """Biases of query, key and value. Default: `bias`."""
    tie_embeddings: bool = True
    """The output projection shares the token embedding's weights."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    experts: Dimension | None = None
    """Experts of a layer's MLP (planning alone). Default: one MLP, and no router."""
    experts_per_token: Dimension = 2
    """Experts that a token is sent to."""
    expert_hidden_size: Dimension | None = None
    """Width of an expert. Default: ffn_hidden_size."""
    shared_experts: Annotated[int, Field(ge=0, le=1024)] = 0
    """Experts that every token is sent to, beside those of `experts` (DeepSeekMoE, 2401.06066)."""
    dense_layers: Annotated[int, Field(ge=0, le=4_000)] = 0
    """Layers from the first on whose MLP is one of ffn_hidden_size (DeepSeek-V3: 3)."""
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
        if self.hidden_size and self.num_heads and not self.head_size and self.hidden_size % self.num_heads:
            divisors = _divisors_near(self.hidden_size, self.num_heads)
            raise ValueError(
                f"hidden_size {self.hidden_size} cannot be split over num_heads {self.num_heads}; "
                f"try num_heads {divisors}, or set head_size"
            )
        if self.num_heads and self.num_kv_heads and self.num_heads % self.num_kv_heads:
            divisors = _divisors_near(self.num_heads, self.num_kv_heads)
            raise ValueError(
                f"num_heads {self.num_heads} cannot share num_kv_heads {self.num_kv_heads}; try num_kv_heads {divisors}"
            )
        return self

    @model_validator(mode="after")
    def _positions_fit(self) -> Self:
        if self.positions != "rotary":
            for name, given in (
                ("rotary_scaling", self.rotary_scaling is not None),
                ("rotary_fraction", self.rotary_fraction != 1.0),
            ):
                if given:
                    raise ValueError(f"{name} is of rotary positions, and positions is {self.positions}: leave it out")
        if self.positions == "relative":
            if self.sliding_window is not None:
                raise ValueError("relative positions are of every distance, and sliding_window is set: leave one out")
            if self.hidden_size and self.hidden_size % 2:
                raise ValueError(
                    f"relative positions have a sine and a cosine of each rate: hidden_size {self.hidden_size} is odd"
                )
        elif (
            self.positions == "rotary"
            and (self.is_sized or self.head_size)
            and (self.rotary_width % 2 or not self.rotary_width)
        ):
            of_it = "" if self.rotary_fraction == 1.0 else f", of which {self.rotary_fraction:g} is {self.rotary_width}"
            raise ValueError(
                f"rotary positions turn pairs of an even part of each head, and the head size is {self.head_dim}{of_it}"
            )
        return self

    @model_validator(mode="after")
    def _yarn_has_slower_and_slower_pairs(self) -> Self:
        if self.rotary_scaling and self.rotary_scaling.kind == "yarn" and self.rotary_base <= 1.0:
            raise ValueError(f"yarn wants a rotary_base above 1, and it is {self.rotary_base:g}")
        return self

    @model_validator(mode="after")
    def _experts_are_whole(self) -> Self:
        if self.experts is None:
            for name in ("experts_per_token", "expert_hidden_size", "shared_experts", "dense_layers"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} is of a mixture of experts, and experts is missing: set it, or leave it out"
                    )
            return self
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token is {self.experts_per_token}: set experts={self.experts} or fewer")
        if self.family == "bert":
            raise ValueError("experts are for a gpt, not for a bert: leave them out")
        if self.num_layers is not None and self.dense_layers >= self.num_layers:
            raise ValueError(f"dense_layers {self.dense_layers} leaves none of {self.num_layers} layers to the experts")
        return self

    @model_validator(mode="after")
    def _options_go_together(self) -> Self:
        if self.family == "bert":
            if self.positions != "learned":
                raise ValueError(f"a bert has learned positions, not {self.positions}")
            for name, given in (
                ("query_key_norm", self.query_key_norm != "none"),
                ("sliding_window", self.sliding_window is not None),
                ("parallel_residual", self.parallel_residual),
                ("layer_norm: reordered", self.layer_norm == "reordered"),
            ):
                if given:
                    raise ValueError(f"{name} is for a gpt, not for a bert: leave it out")
        if self.parallel_residual and self.layer_norm != "pre":
            raise ValueError(f"parallel_residual wants layer_norm: pre, and it is {self.layer_norm}")
        return self

    def __hash__(self) -> int:
        """By all fields, reckoned once: a search looks a model up hundreds of thousands of times."""
        known: int | None = self.__dict__.get(_HASH)
        if known is None:
            known = self.__dict__[_HASH] = hash(tuple(getattr(self, name) for name in type(self).model_fields))
        return known

    def __copy__(self) -> Self:
        """Without the hash: `model_copy` changes what it is of."""
        copied = super().__copy__()
        copied.__dict__.pop(_HASH, None)
        return copied

    @property
    def is_sized(self) -> bool:
        """Whether the shape is known (given, or chosen by a plan)."""
        return self.num_layers is not None

    @property
    def layers(self) -> int:
        return _known(self.num_layers)

    @property
    def most_stages(self) -> int:
        """Pipeline stages that the layers fill at most: one a layer, and one at each end that has none."""
        return self.layers + 2

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
        return self.head_size or self.hidden // self.heads

    @property
    def query_width(self) -> int:
        """All heads of the queries together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """All heads of the keys together; as wide are those of the values."""
        return self.kv_heads * self.head_dim

    @property
    def rotary_width(self) -> int:
        """Dimensions of each head that are rotated."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def has_qkv_bias(self) -> bool:
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def ends_in_norm(self) -> bool:
        """Whether a norm stands after the last layer."""
        return self.layer_norm != "post"

    @property
    def ffn_hidden(self) -> int:
        return self.ffn_hidden_size or 4 * self.hidden

    @property
    def expert_hidden(self) -> int:
        return self.expert_hidden_size or self.ffn_hidden

    @property
    def expert_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

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
