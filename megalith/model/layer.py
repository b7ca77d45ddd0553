"""One transformer layer: attention and MLP, each added to the residual stream, with a norm each.

Before attention and MLP (`layer_norm: pre`; GPT-2, and Megatron-LM's Figure 7b), so that the residual stream itself is
never normalised and large BERTs train; after the addition (`post`; the original BERT, Figure 7a); or on what is added
(`reordered`; OLMo 2, 2501.00656 §3.2). With a parallel residual (GPT-NeoX, 2204.06745 §2.1) attention and MLP read the
same stream.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels import Linear, gelu_tanh
from megalith.model.attention import Attention
from megalith.model.products import Products, products
from megalith.model.rotary import Rotation
from megalith.recipe import ModelConfig


class Layer(nn.Module):
    """A layer of the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp: nn.Module = SwiGLU(config) if config.activation == "swiglu" else MLP(config)
        self.attention_dropout, self.mlp_dropout = nn.Dropout(config.dropout), nn.Dropout(config.dropout)
        self.order = config.layer_norm
        self.parallel_residual = config.parallel_residual

    def forward(self, x: Tensor, mask: Tensor | None = None, rotation: Rotation | None = None) -> Tensor:
        """(B, T, E) to (B, T, E); for `mask` and `rotation` see `Attention`."""
        if self.order == "post":
            x = self.attention_norm(x + self.attention_dropout(self.attention(x, mask=mask, rotation=rotation)))
            y: Tensor = self.mlp_norm(x + self.mlp_dropout(self.mlp(x)))
        elif self.order == "reordered":
            x = x + self.attention_dropout(self.attention_norm(self.attention(x, mask=mask, rotation=rotation)))
            y = x + self.mlp_dropout(self.mlp_norm(self.mlp(x)))
        else:
            mixed = self.attention(self.attention_norm(x), mask=mask, rotation=rotation)
            attended = x + self.attention_dropout(mixed)
            y = attended + self.mlp_dropout(self.mlp(self.mlp_norm(x if self.parallel_residual else attended)))
        return y


class MLP(nn.Module):
    """Two products with a GELU between them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activate = gelu(config)
        self.products: Products = products
        self.up = Linear(config.hidden, config.ffn_hidden, bias=config.bias)
        self.down = Linear(config.ffn_hidden, config.hidden, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) to (B, T, E)."""
        y: Tensor = self.down(self.activate(*self.products(x, self.up)))
        return y


class SwiGLU(nn.Module):
    """A gated MLP (2002.05202): SiLU of one product scales another."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activate = swiglu
        self.products: Products = products
        self.gate = Linear(config.hidden, config.ffn_hidden, bias=config.bias)
        self.up = Linear(config.hidden, config.ffn_hidden, bias=config.bias)
        self.down = Linear(config.ffn_hidden, config.hidden, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) to (B, T, E)."""
        y: Tensor = self.down(self.activate(*self.products(x, self.gate, self.up)))
        return y


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU of one scales the other, of the same shape."""
    return F.silu(gate) * up


def gelu(config: ModelConfig) -> Callable[[Tensor], Tensor]:
    """GPT-2's tanh form, or the exact one by the error function."""
    return F.gelu if config.activation == "gelu_exact" else gelu_tanh


def make_norm(config: ModelConfig) -> nn.Module:
    """LayerNorm or RMSNorm over the hidden size."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.hidden, eps=config.norm_epsilon)
    return nn.LayerNorm(config.hidden, eps=config.norm_epsilon, bias=config.bias)
