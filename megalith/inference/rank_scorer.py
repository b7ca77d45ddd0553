"""Scores by several processes: tensor-parallel ranks hold heads and vocabulary, pipeline ranks layers.

Data-parallel ranks have windows of their own, and end with the scores of all. The stages may be those of a model that
is being trained: between two passes they are as they were.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate

from megalith.errors import UnsupportedError
from megalith.inference.load import LanguageModel
from megalith.inference.prefix_tree import Pass
from megalith.inference.ranks import own_part
from megalith.inference.scorer import Scored, log_probabilities
from megalith.inference.tree_attention import Tree, TreeAttention
from megalith.model import GPT
from megalith.model.attention import Attention
from megalith.parallel import Mesh
from megalith.parallel.vocabulary import first_row


class RankScorer:
    """This rank's stages of a model. Tensor-parallel and pipeline ranks must make the same calls."""

    def __init__(
        self,
        stages: Mapping[int, GPT],
        count: int,
        ranks: Mesh,
        *,
        sequence_parallel: bool = False,
        gathered: bool = False,
    ) -> None:
        """`stages` are this rank's by number in the pipeline, of `count` in all, in turn on the pipeline's ranks.

        Raises UnsupportedError for a model whose weights are sharded over data-parallel ranks (ZeRO), unless the caller
        has them `gathered` whenever it scores.
        """
        modules = (module for stage in stages.values() for module in stage.modules())
        if not gathered and any(isinstance(module, FSDPModule) for module in modules):
            raise UnsupportedError(
                "a model whose weights are sharded cannot be scored as it is.",
                where="parallel.zero",
                mend="Set parallel.zero to 0, or score its checkpoint.",
            )
        self._stages, self._last, self._ranks = dict(sorted(stages.items())), count - 1, ranks
        self._shared = ranks.size("tensor") if sequence_parallel else 1
        self._tree = Tree()
        attentions = [m for stage in self._stages.values() for m in stage.modules() if isinstance(m, Attention)]
        self._attentions = [(attention, TreeAttention(n, self._tree)) for n, attention in enumerate(attentions)]
        self.data_index, self.data_size = ranks.data_index, ranks.data_size

    @classmethod
    def of_whole(cls, lm: LanguageModel, ranks: Mesh) -> Self:
        """Keep this rank's part of a model that each rank has read."""
        return cls({ranks.index("pipeline"): own_part(lm, ranks)}, ranks.size("pipeline"), ranks)

    @torch.no_grad()
    def score(self, step: Pass) -> Scored:
        """The same on all tensor-parallel and pipeline ranks."""
        device = self._ranks.device
        x, positions = (torch.from_numpy(each).to(device)[None] for each in (step.tokens, step.positions))  # (1, N)
        self._tree.enter(step, device)
        found = torch.empty(2, len(step.targets), dtype=torch.float64, device=device)
        with self._over_trees():
            for number, stage in self._stages.items():
                if not stage.is_first_stage:
                    length = len(step.tokens) // self._shared
                    x = torch.empty(1, length, stage.config.hidden, dtype=stage.activation_dtype, device=device)
                    dist.recv(x, group=self._line(), group_src=self._rank_of(number - 1))
                y = stage.features(x, positions)
                if stage.is_last_stage:
                    found = torch.stack([each.double() for each in _scored(y, stage, step)])
                else:
                    dist.send(y.contiguous(), group=self._line(), group_dst=self._rank_of(number + 1))
        if self._last > 0:
            dist.broadcast(found, group=self._line(), group_src=self._rank_of(self._last))
        return found[0], found[1] > 0

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        total = torch.from_numpy(values).to(self._ranks.device)
        for axis in ("replicate", "shard"):
            if self._ranks.size(axis) > 1:
                dist.all_reduce(total, group=self._ranks.submesh(axis).get_group())
        return total.cpu().numpy()

    @contextmanager
    def _over_trees(self) -> Iterator[None]:
        """Within the block attention is over the tree, and nothing is dropped."""
        cores = [attention.core for attention, _ in self._attentions]
        training = [(stage, stage.training) for stage in self._stages.values()]
        for stage in self._stages.values():
            stage.eval()
        for attention, tree in self._attentions:
            attention.core = tree
        try:
            yield
        finally:
            for (attention, _), core in zip(self._attentions, cores, strict=True):
                attention.core = core
            for stage, was in training:
                stage.train(was)

    def _line(self) -> dist.ProcessGroup:
        return self._ranks.submesh("pipeline").get_group()

    def _rank_of(self, stage: int) -> int:
        return stage % self._ranks.size("pipeline")


def _scored(features: Tensor, stage: GPT, step: Pass) -> Scored:
    weight, known = stage.output_weight, stage.config.vocab_size
    if not isinstance(weight, DTensor):
        return log_probabilities(features[0], weight[:known], step)
    mesh = weight.device_mesh
    if isinstance(features, DTensor):  # split along the sequence
        features = features.redistribute(placements=[Replicate()]).to_local()
    first = first_row(weight)
    own = weight.to_local()[: max(0, known - first)]
    return log_probabilities(features[0], own, step, first=first, group=mesh.get_group())
