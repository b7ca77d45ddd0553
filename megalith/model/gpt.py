"""A causal language model, from GPT-2 to Llama: embedding, layers, a last norm, logits.

The vocabulary is padded to a multiple that suits the hardware. The padded entries are not tokens: their logits are −∞,
and no loss sees them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.model.documents import document_positions
from megalith.model.transformer import Transformer


class GPT(Transformer):
    """Predicts each token from those before it."""

    def features(self, x: Tensor, positions: Tensor | None = None, document_starts: Tensor | None = None) -> Tensor:
        """Token ids (B, T), or the activations of the stage before, to the features of the logits (B, T, E).

        `positions` (B, T) are those of the tokens, by default 0 … T − 1. With `document_starts` (B, T), the place at
        which each token's document begins, documents are apart, and the positions of each begin at 0. Ranks that share
        a sample are given it for the whole of that.
        """
        if document_starts is not None:
            whole = document_positions(document_starts)
            positions = whole.chunk(self.context_ranks, dim=1)[self.context_rank]
        if self.is_first_stage:
            x = self.dropout(self.embed(x, positions).to(self.activation_dtype))
        x = self.run_layers(x, mask=document_starts, positions=positions)
        return self.final_norm(x) if self.is_last_stage and self.config.ends_in_norm else x

    def forward(self, x: Tensor, targets: Tensor | None = None, document_starts: Tensor | None = None) -> Tensor:
        """Token ids (B, T) to logits (B, T, V), −∞ in the padded columns; with `targets` (B, T), to the loss.

        The loss is the sum of the token losses in nats, (1,) in float64, with a z-loss its sum after it; targets of
        −100 do not count. A stage that is not the first takes activations (B, T, E) in place of ids, and one that is
        not the last returns them. For `document_starts` see `features`.
        """
        features = self.features(x, document_starts=document_starts)
        if not self.is_last_stage:
            return features
        if targets is not None:
            z_loss = self.z_loss if self.training else 0.0
            total, z = self.cross_entropy(features, self.output_weight, targets, self.config.vocab_size, z_loss=z_loss)
            return torch.stack([total - z, z][: len(self.losses)])  # the first has the gradient of both
        logits = F.linear(features, self.output_weight.to(features.dtype))
        logits[..., self.config.vocab_size :] = -torch.inf
        return logits
