"""A model as generation runs it: its own modules, with attention over caches in place of its core.

The model that was given stays as it is, and its weights are shared, but for those of which `kernels.for_few_rows` makes
a copy in another order because that is quicker here: then the weights are held twice.
"""

import copy
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.inference.kv_cache import CachedAttention, CacheShape, Flight, Segment
from megalith.inference.load import LanguageModel, not_finite
from megalith.kernels import for_few_rows, quick_norm
from megalith.model.attention import Attention


class Decoder:
    """Reads the next tokens of several sequences at a time."""

    cache_shape: CacheShape
    needs_seeds = False
    """Whether others draw the same tokens, so that no seed may be a random one."""

    def __init__(self, lm: LanguageModel, rows: int) -> None:
        """Most forward passes have up to `rows` tokens."""
        shared = {id(tensor): tensor for tensor in (*lm.model.parameters(), *lm.model.buffers())}
        self._model = copy.deepcopy(lm.model, shared)
        self._flight = Flight()
        with_caches(self._model, self._flight)
        config = lm.config
        self.cache_shape = CacheShape(
            layers=config.layers,
            heads=config.kv_heads,
            head_dim=config.head_dim,
            dtype=self._model.output_weight.dtype,
            window=config.sliding_window,
        )
        weight = self._model.output_weight[: config.vocab_size]  # (V, E), without the padding
        self._head = for_few_rows(weight, None, rows) or partial(F.linear, weight=weight)
        for parent in list(self._model.modules()):
            for name, module in list(parent.named_children()):
                if (own := _quicker(module, rows)) is not None:
                    setattr(parent, name, own)

    @torch.inference_mode()
    def features(self, tokens: Sequence[int], segments: Sequence[Segment]) -> Tensor:
        """Read the tokens of all segments, side by side, into their caches; gives the features of the logits (N, E)."""
        positions = [place for each in segments for place in range(each.start, each.start + each.count)]
        self._flight.board(segments)
        try:
            found: Tensor = self._model.features(torch.tensor([tokens]), torch.tensor([positions]))[0]
        finally:
            self._flight.land()
        return found

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """Logits in fp32 (N, V) of features (N, E). Raises InputError where they are not finite."""
        found: Tensor = self._head(features).float()
        if not bool(torch.isfinite(found.sum())):
            raise not_finite()
        return found


def with_caches(model: nn.Module, flight: Flight) -> int:
    """Put attention over caches in place of the core attention of each layer; returns how many there are."""
    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    for layer, attention in enumerate(attentions):
        attention.core = CachedAttention(layer, flight)
    keep_relative_keys(attentions)
    return len(attentions)


def keep_relative_keys(attentions: Iterable[Attention]) -> None:
    """Find the keys of relative positions once for all passes to come."""
    for attention in attentions:
        if attention.config.positions == "relative":
            attention.relative.keep_keys(attention.config.sequence_length)


def _quicker(module: nn.Module, rows: int) -> nn.Module | None:
    """Return a module that does the same in less time; None where none is known."""
    if isinstance(module, nn.Dropout):
        return nn.Identity()
    if isinstance(module, nn.RMSNorm):
        return quick_norm(module)
    return for_few_rows(module.weight, module.bias, rows) if isinstance(module, nn.Linear) else None
