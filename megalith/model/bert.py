"""BERT (1810.04805) as Megatron-LM §5.3 trains it: masked tokens, and the order of two texts (1909.11942 §3.1).

With `layer_norm: pre` a norm stands at the end; with `post`, as in the original, one after the embedding. The heads are
the original's, which gives each masked token a dense layer and a norm before the logits. Fine-tuning is not here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.arithmetic import TOKEN_TYPES
from megalith.model.embedding import Embedding
from megalith.model.layer import make_norm
from megalith.model.loss import IGNORE, CrossEntropy, linear_cross_entropy
from megalith.model.transformer import Transformer
from megalith.recipe import ModelConfig


class BERT(Transformer):
    """Predicts masked tokens from those on both sides, and which of two pieces of text comes first."""

    kinds = ("masked token", "sentence order")

    def __init__(self, config: ModelConfig) -> None:
        """Build the model; `initialise` gives it its weights."""
        super().__init__(config)
        self.token_type_embedding = Embedding(TOKEN_TYPES, config.hidden)
        if config.layer_norm == "post":
            self.embedding_norm = make_norm(config)
        self.heads = Heads(config)

    def features(self, x: Tensor, segments: Tensor, lengths: Tensor) -> Tensor:
        """Token ids (B, T), or the activations of the stage before, to the features of the heads (B, T, E)."""
        if self.is_first_stage:
            x = self.embed(x) + self.token_type_embedding(segments)
            if self.config.layer_norm == "post":
                x = self.embedding_norm(x)
            x = self.dropout(x.to(self.activation_dtype))
        places = torch.arange(segments.shape[1], device=lengths.device)
        mask = (places < lengths.unsqueeze(1))[:, None, None]  # (B, 1, 1, T)
        x = self.run_layers(x, mask)
        return self.final_norm(x) if self.is_last_stage and self.config.ends_in_norm else x

    def forward(
        self,
        x: Tensor,
        targets: Tensor | None = None,
        *,
        segments: Tensor,
        lengths: Tensor,
        order: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Token ids (B, T) to the logits of the tokens (B, T, V), −∞ in the padded columns, and of the order (B, 2).

        `segments` (B, T) are 0 or 1, and `lengths` (B,) count the tokens before the padding. With `targets` (B, T) and
        `order` (B,) it gives the losses: the sums of masked tokens' and of orders' nats, (2,) in float64, with a
        z-loss its sum after them; targets of −100 do not count. A stage that is not the first takes activations
        (B, T, E) in place of ids, and one that is not the last returns them.
        """
        features = self.features(x, segments, lengths)
        if not self.is_last_stage:
            return features
        found: Tensor | tuple[Tensor, Tensor] = self.heads(
            features,
            weight=self.output_weight,
            targets=targets,
            order=order,
            cross_entropy=self.cross_entropy,
            z_loss=self.z_loss if self.training else 0.0,
        )
        if isinstance(found, tuple):
            return found
        return torch.stack(found.unbind()[: len(self.losses)])  # no view: a pipeline takes the graph off what it keeps


class Heads(nn.Module):
    """The masked-token head, whose logits share the token embedding or not, and the sentence-order head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.gelu = "none" if config.activation == "gelu_exact" else "tanh"
        self.dense = nn.Linear(config.hidden, config.hidden, bias=config.bias)
        self.norm = make_norm(config)
        self.output_bias = nn.Parameter(torch.zeros(config.padded_vocab_size)) if config.bias else None
        self.pooler = nn.Linear(config.hidden, config.hidden, bias=config.bias)
        self.sentence_order = nn.Linear(config.hidden, 2, bias=config.bias)

    def forward(
        self,
        features: Tensor,
        *,
        weight: Tensor,
        targets: Tensor | None = None,
        order: Tensor | None = None,
        cross_entropy: CrossEntropy = linear_cross_entropy,
        z_loss: float = 0.0,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Features (B, T, E) and the output projection `weight` (V, E) to logits, or to losses (3,).

        See `BERT.forward`; the last of the losses is the z-loss.
        """
        order_logits = self.sentence_order(torch.tanh(self.pooler(features[:, 0])))  # (B, 2)
        if targets is None or order is None:
            logits = F.linear(self.transform(features), weight.to(features.dtype), self.output_bias)  # (B, T, V)
            logits[..., self.vocab_size :] = -torch.inf
            return logits, order_logits
        places = (targets.flatten() != IGNORE).nonzero().squeeze(1)  # (M): about 15 % of the tokens
        masked = self.transform(features.flatten(0, 1).index_select(0, places))  # (M, E)
        chosen = targets.flatten().index_select(0, places)
        total, z = cross_entropy(masked, weight, chosen, self.vocab_size, self.output_bias, z_loss)
        order_loss = F.cross_entropy(order_logits.double(), order, ignore_index=IGNORE, reduction="sum")
        return torch.stack([total - z, order_loss, z])  # the first has the gradient of the z-loss, too

    def transform(self, x: Tensor) -> Tensor:
        """Features (…, E) to what is multiplied with the output projection."""
        y: Tensor = self.norm(F.gelu(self.dense(x), approximate=self.gelu))
        return y
