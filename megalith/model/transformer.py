"""The trunk of a GPT or BERT model: token (and position) embeddings, then layers; heads stand in `gpt` and `bert`.

A model is whole, or a pipeline stage with some of its layers: a stage that is not the first takes the activations of
the stage before it, and one that is not the last returns its own. Layers keep their numbers in the whole.
"""

import torch
from torch import Tensor, nn

from megalith.errors import UnsupportedError
from megalith.model.embedding import Embedding
from megalith.model.layer import Layer, make_norm
from megalith.model.loss import CrossEntropy, linear_cross_entropy
from megalith.model.rotary import Rotation, rotary
from megalith.recipe import ModelConfig


class Transformer(nn.Module):
    """Shapes: B batch, T tokens, E hidden, V padded vocabulary."""

    is_first_stage = True
    """Whether this stage embeds the tokens."""
    is_last_stage = True
    """Whether this stage has the heads and the loss."""
    sequence_ranks = 1
    """Ranks over which the residual stream is split along the sequence."""
    context_ranks, context_rank = 1, 0
    """Ranks that share each sample, and this one's place: each has as many neighbouring tokens, T of all of them."""
    kinds: tuple[str, ...] = ("predicted token",)
    """The kinds of loss of the family; the first is over tokens."""
    z_loss = 0.0
    """Weight of log² Z beside each token's loss in training."""

    def __init__(self, config: ModelConfig) -> None:
        """Build the model; `initialise` gives it its weights. Raises UnsupportedError for a mixture of experts."""
        super().__init__()
        if config.experts:
            raise UnsupportedError(
                "a mixture of experts can be planned, not yet trained.",
                where="model.experts",
                mend="Leave model.experts out, or ask `megalith plan layout`.",
            )
        self.config = config
        self._rotations: dict[tuple[int, torch.dtype, torch.device], Rotation] = {}
        self.activation_dtype = torch.get_default_dtype()
        """Type of the residual stream; embeddings keep their own."""
        self.cross_entropy: CrossEntropy = linear_cross_entropy
        self.token_embedding = Embedding(config.padded_vocab_size, config.hidden)
        if config.positions == "learned":
            self.position_embedding = Embedding(config.sequence_length, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleDict({str(number): Layer(config) for number in range(config.layers)})
        if config.ends_in_norm:
            self.final_norm = make_norm(config)
        if not config.tie_embeddings:
            self.output = nn.Linear(config.hidden, config.padded_vocab_size, bias=False)

    @property
    def losses(self) -> tuple[str, ...]:
        """The kinds of loss that the heads sum, in the order in which they give them."""
        return (*self.kinds, "z loss") if self.z_loss else self.kinds

    @property
    def output_weight(self) -> Tensor:
        """The output projection (V, E): the token embedding's own weights where they are tied."""
        return self.token_embedding.weight if self.config.tie_embeddings else self.output.weight

    @property
    def numbered_layers(self) -> dict[int, Layer]:
        """The layers of this stage, by their number in the whole model."""
        return {int(number): block for number, block in self.layers.items() if isinstance(block, Layer)}

    def embed(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Token ids (B, T) to the residual stream (B, T, E), before dropout; `positions` (B, T) as in `features`."""
        x: Tensor = self.token_embedding(tokens)
        if self.config.positions == "learned":
            if positions is None:
                length = tokens.shape[1]
                first = self.context_rank * length
                positions = torch.arange(first, first + length, device=tokens.device).unsqueeze(0)  # (1, T)
            x = x + self.position_embedding(positions)
        return x

    def run_layers(self, x: Tensor, mask: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """The residual stream through this stage's layers, (B, T, E) to (B, T, E); see `Attention`."""
        rotation = self._rotation(x, positions) if self.config.positions == "rotary" and self.layers else None
        for layer in self.layers.values():
            x = layer(x, mask=mask, rotation=rotation)
        return x

    def _rotation(self, x: Tensor, positions: Tensor | None) -> Rotation:
        """The rotation of all layers: made for these positions, or once for the first so many."""
        length = x.shape[1] * self.sequence_ranks
        if positions is not None:
            return rotary(self.config, length, positions, like=x)
        key = (length, x.dtype, x.device)
        if key not in self._rotations:
            with torch.inference_mode(False):  # training may want it later
                self._rotations[key] = rotary(self.config, length, None, like=x, first=self.context_rank * length)
        return self._rotations[key]
