"""Generation by several processes: tensor-parallel ranks hold heads, pipeline ranks layers, each with its own caches.

Every rank runs the same engine and is asked the same in the same order; logits are whole on all of them, and draws
depend on seed and place alone, so that all take the same tokens. One chunk or step is under way at a time: pipeline
stages wait for each other.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate
from torch.nn import functional as F

from megalith.inference.decoder import Decoder, with_caches
from megalith.inference.kv_cache import CacheShape, Flight, Segment
from megalith.inference.load import LanguageModel, not_finite
from megalith.model import GPT
from megalith.parallel import Mesh, local
from megalith.parallel.master_weights import region
from megalith.parallel.pipeline import keep_stage
from megalith.parallel.tensor import split_tensors
from megalith.topology import key_heads_on_a_rank


class RankDecoder(Decoder):
    """This rank's part of a model. Every rank must make the same calls."""

    needs_seeds = True

    def __init__(self, lm: LanguageModel, ranks: Mesh) -> None:
        """`ranks` have a mesh of tensor and pipeline ranks; each has read the whole model, and keeps its part."""
        self._ranks, self._config = ranks, lm.config
        self._stage = own_part(lm, ranks)
        self._flight = Flight()
        layers = with_caches(self._stage, self._flight)
        self.cache_shape = CacheShape(
            layers=layers,
            heads=key_heads_on_a_rank(lm.config, ranks.size("tensor")),
            head_dim=lm.config.head_dim,
            dtype=lm.model.activation_dtype,
            window=lm.config.sliding_window,
        )

    @torch.no_grad()
    def features(self, tokens: Sequence[int], segments: Sequence[Segment]) -> Tensor:
        """As `Decoder.features`; on a rank without the last layers, a tensor of the same shape without meaning."""
        positions = torch.tensor([[place for each in segments for place in range(each.start, each.start + each.count)]])
        x = torch.tensor([tokens])
        between = torch.empty(1, len(tokens), self._config.hidden, dtype=self.cache_shape.dtype)
        if not self._stage.is_first_stage:
            dist.recv(between, **self._neighbour("group_src", -1))
            x = between
        self._flight.board(segments)
        try:
            y = self._stage.features(x, positions)
        finally:
            self._flight.land()
        if not self._stage.is_last_stage:
            dist.send(y.contiguous(), **self._neighbour("group_dst", 1))
        return y[0]

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """As `Decoder.logits`, the same on all ranks."""
        found = torch.empty(len(features), self._config.vocab_size)
        if self._stage.is_last_stage:
            weight = self._stage.output_weight
            if isinstance(weight, DTensor):  # split by vocabulary
                whole = DTensor.from_local(features, weight.device_mesh, [Replicate()], run_check=False)
                logits = F.linear(whole, weight).full_tensor()  # type: ignore[attr-defined]  # a DTensor
            else:
                logits = F.linear(features, weight)
            found = logits[:, : self._config.vocab_size].float().contiguous()
        last = self._ranks.size("pipeline") - 1
        if last > 0:
            dist.broadcast(found, group=self._ranks.submesh("pipeline").get_group(), group_src=last)
        if not bool(torch.isfinite(found.sum())):
            raise not_finite()
        return found

    def _neighbour(self, name: str, step: int) -> dict[str, Any]:
        return {
            "group": self._ranks.submesh("pipeline").get_group(), name: self._ranks.index("pipeline") + step
        }  # fmt: skip


@torch.no_grad()
def own_part(lm: LanguageModel, ranks: Mesh) -> GPT:
    """This rank's layers and rows of a model."""
    with torch.device("meta"):
        stage = GPT(lm.config)
    keep_stage(stage, ranks.index("pipeline"), ranks.size("pipeline"))
    if ranks.size("tensor") > 1:
        split_tensors(stage, ranks.submesh("tensor"), sequence_parallel=False)
    stage.to_empty(device="cpu")
    stage.to(lm.model.activation_dtype)
    whole = lm.model.state_dict()
    for name, parameter in stage.named_parameters():
        local(parameter).copy_(whole[name][region(parameter)])
    return stage.eval()
