"""Self-attention, with as many heads of keys and values as of queries or fewer (grouped queries, 2305.13245)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels import Linear, causal_attention
from megalith.model.documents import document_attention
from megalith.model.products import Products, products
from megalith.model.relative import RelativePositions, relative_attention
from megalith.model.rotary import Rotation, rotate
from megalith.model.window import window_attention
from megalith.recipe import ModelConfig


class Attention(nn.Module):
    """Each token looks at itself and at the tokens before it; in a BERT model, at all that are not padding."""

    to_heads: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    """Queries, keys and values as projected to those of the core: of all tokens, where ranks share them."""
    to_tokens: Callable[[Tensor], Tensor]
    """The core's output to this rank's tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.query = Linear(config.hidden, config.query_width, bias=config.has_qkv_bias)
        self.key = Linear(config.hidden, config.kv_width, bias=config.has_qkv_bias)
        self.value = Linear(config.hidden, config.kv_width, bias=config.has_qkv_bias)
        if config.query_key_norm != "none":
            self.query_norm, self.key_norm = (
                nn.RMSNorm(config.head_dim if config.query_key_norm == "head" else width, eps=config.norm_epsilon)
                for width in (config.query_width, config.kv_width)
            )
        if config.positions == "relative":
            self.relative = RelativePositions(config)
        self.products: Products = products
        self.core: nn.Module = CoreAttention(config)
        self.output = Linear(config.query_width, config.hidden, bias=config.bias)
        self.to_heads, self.to_tokens = _as_they_are, _as_it_is

    def forward(self, x: Tensor, mask: Tensor | None = None, rotation: Rotation | None = None) -> Tensor:
        """(B, T, E) to (B, T, E).

        `mask` (B, 1, 1, T) is true where a BERT's token may be looked at; a GPT's (B, T) are the places at which each
        token's document begins. Queries and keys are rotated before the core, where there is a rotation.
        """
        q, k, v = self.products(x, self.query, self.key, self.value)  # (B, T, H · D), and (B, T, H_kv · D) twice
        if self.config.query_key_norm == "whole":
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = (each.view(*each.shape[:-1], -1, self.config.head_dim) for each in (q, k, v))  # (B, T, H, D)
        if self.config.query_key_norm == "head":
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))  # (B, H, T, D), and (B, H_kv, T, D) twice
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        q, k, v = self.to_heads(q, k, v)
        where: list[Tensor] = []  # what relative positions add to the core
        if self.config.positions == "relative":
            whole = isinstance(self.core, CoreAttention)  # and no cache or tree, whose tokens may stand anywhere
            q, *where = self.relative(q, q.shape[2] if whole else self.config.sequence_length)
        y = self.to_tokens(self.core(q, k, v, mask, *where))  # (B, H, T, D)
        mixed: Tensor = self.output(y.transpose(1, 2).flatten(2))  # (B, T, E)
        return mixed


def _as_they_are(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q, k, v


def _as_it_is(y: Tensor) -> Tensor:
    return y


class CoreAttention(nn.Module):
    """softmax(q·kᵀ / √D)·v."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.causal = config.family == "gpt"
        self.window = config.sliding_window
        self.dropout = config.dropout

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        position_q: Tensor | None = None,
        position_k: Tensor | None = None,
    ) -> Tensor:
        """q (B, H, T, D), k and v (B, H_kv, T, D) to (B, H, T, D); the last two as `RelativePositions` gives them."""
        dropout = self.dropout if self.training else 0.0
        in_blocks = self.window is not None and self.window < q.shape[2]
        grouped = q.shape[1] != k.shape[1]
        relative = position_q is not None and position_k is not None
        if grouped and (in_blocks or relative or mask is not None or not takes_groups(q)):
            group, grouped = q.shape[1] // k.shape[1], False
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        if position_q is not None and position_k is not None:
            return relative_attention(q, k, v, position_q, position_k, dropout, starts=mask)
        if self.causal and mask is not None:
            return document_attention(q, k, v, mask, self.window, dropout)
        if in_blocks and self.window is not None:
            return window_attention(q, k, v, self.window, dropout)
        if self.causal and not dropout and not grouped:
            return causal_attention(q, k, v)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=self.causal, enable_gqa=grouped
        )


def takes_groups(q: Tensor) -> bool:
    """Whether queries of this type and place find shared heads of keys by themselves: flash attention, on a GPU.

    torch's other kernels would multiply whole scores, or want a copy for each query.
    """
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)
