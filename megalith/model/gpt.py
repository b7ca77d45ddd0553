"""A causal language model, from GPT-2 to Llama: token (and position) embedding, layers, a last norm, logits.

The vocabulary is padded to a multiple that suits the hardware. The padded entries are no tokens: their logits are −∞,
and no loss sees them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.errors import UnsupportedError
from megalith.model.attention import rotary
from megalith.model.blocks import Block, make_norm
from megalith.model.loss import linear_cross_entropy
from megalith.recipe import ModelConfig


class GPT(nn.Module):
    """Shapes: B batch, T tokens, E hidden, V padded vocabulary."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the model; `initialise` gives it its weights.

        Raises UnsupportedError for a bert, relative positions and post-norm.
        """
        refuse_what_is_only_planned(config)
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.padded_vocab_size, config.hidden)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.sequence_length, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = make_norm(config)
        if not config.tie_embeddings:
            self.output = nn.Linear(config.hidden, config.padded_vocab_size, bias=False)

    @property
    def output_weight(self) -> Tensor:
        """The output projection (V, E): the token embedding's own weights where they are tied."""
        return self.token_embedding.weight if self.config.tie_embeddings else self.output.weight

    def features(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to what the logits are made of (B, T, E)."""
        length = tokens.shape[1]
        x = self.token_embedding(tokens)  # (B, T, E)
        rotation = None
        if self.config.positions == "learned":
            x = x + self.position_embedding.weight[:length]
        else:
            rotation = rotary(length, self.config.head_dim, self.config.rotary_base, like=x)
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x, rotation)
        normed: Tensor = self.final_norm(x)
        return normed

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, T) to logits (B, T, V), −∞ in the padded columns."""
        logits = F.linear(self.features(tokens), self.output_weight)
        logits[..., self.config.vocab_size :] = -torch.inf
        return logits

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The sum of the token losses in nats, one float64 number; targets (B, T) of −100 do not count."""
        weight = self.output_weight[: self.config.vocab_size]
        return linear_cross_entropy(self.features(tokens).flatten(0, 1), weight, targets.flatten())


def refuse_what_is_only_planned(config: ModelConfig) -> None:
    unbuilt = {
        "model.family": (config.family, "bert", "gpt"),
        "model.positions": (config.positions, "relative", "learned or rotary"),
        "model.layer_norm": (config.layer_norm, "post", "pre"),
    }
    for key, (value, refused, mend) in unbuilt.items():
        if value == refused:
            raise UnsupportedError(f"{value} can be planned, not yet trained.", where=key, mend=f"Give {key}: {mend}.")
