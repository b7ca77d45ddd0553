"""A model that scores the passes over a prefix tree, in this process.

Log-softmax is over the vocabulary without its padding, and only where a token is scored: logits and their exponentials
in fp32, sums and what is subtracted in fp64, so that a sum of many log-probabilities keeps its digits.
"""

import copy
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from megalith.inference.decoder import keep_relative_keys
from megalith.inference.load import LanguageModel
from megalith.inference.prefix_tree import Pass
from megalith.inference.tree_attention import Tree, with_trees
from megalith.model.attention import Attention

_ROWS = 256  # logits are computed for this many tokens at a time, to fit a CPU's caches

Scored = tuple[Tensor, Tensor]
"""The log-probability in nats (M) of each scored token of a pass, in fp64, and whether it is the first choice (M)."""


class Scorer(Protocol):
    """A model that scores passes. On tensor-parallel and pipeline ranks, all of them make the same calls."""

    data_index: int
    """Which part of the windows this process scores, of `data_size`."""
    data_size: int

    def score(self, step: Pass) -> Scored:
        """Read the tokens of a pass, the next of its plan, and score those that are wanted."""

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each value, added over the data-parallel ranks."""


class LocalScorer:
    """The model that was given, in this process; its weights are shared and it stays as it is."""

    data_index, data_size = 0, 1

    def __init__(self, lm: LanguageModel) -> None:
        shared = {id(tensor): tensor for tensor in (*lm.model.parameters(), *lm.model.buffers())}
        self._model = copy.deepcopy(lm.model, shared)
        self._tree = Tree()
        with_trees(self._model, self._tree)
        keep_relative_keys(each for each in self._model.modules() if isinstance(each, Attention))
        self._weight = self._model.output_weight[: lm.config.vocab_size]  # (V, E), without the padding

    @torch.inference_mode()
    def score(self, step: Pass) -> Scored:
        device = self._weight.device
        tokens, positions = (torch.from_numpy(each).to(device) for each in (step.tokens, step.positions))
        self._tree.enter(step, device)
        features = self._model.features(tokens[None], positions[None])[0]  # (N, E)
        return log_probabilities(features, self._weight, step)

    def sum(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values


def log_probabilities(
    features: Tensor, weight: Tensor, step: Pass, *, first: int = 0, group: dist.ProcessGroup | None = None
) -> Scored:
    """Score a pass from the features of all its tokens (N, E), with the output projection `weight` (V, E).

    On a `group` of ranks that share the vocabulary, `weight` is this rank's part of it (V', E), from token `first` on.
    """
    weight = weight.to(features.dtype)
    rows, pair_rows, targets = (
        torch.from_numpy(each).to(features.device) for each in (step.rows, step.pair_rows, step.targets)
    )
    found, greedy = [], []
    starts = range(0, len(rows), _ROWS)
    bounds = step.pair_rows.searchsorted([*starts, len(rows)]).tolist()
    for start, (low, high) in zip(starts, pairwise(bounds), strict=True):
        logits = torch.mm(features[rows[start : start + _ROWS]], weight.T).float()  # (R, V')
        own, wanted = pair_rows[low:high] - start, targets[low:high]
        highest, likeliest = logits.max(-1) if len(weight) else (logits.new_full((len(logits),), -torch.inf), own[:0])
        if group is None:
            wanted_logits = logits[own, wanted]  # (M)
        else:
            here = (wanted >= first) & (wanted < first + len(weight))
            wanted_logits = highest.new_full((len(wanted),), -torch.inf)
            wanted_logits[here] = logits[own[here], wanted[here] - first]
            highest, likeliest = _over_all(highest, likeliest + first, group)
            dist.all_reduce(wanted_logits, dist.ReduceOp.MAX, group)
        total = logits.sub_(highest[:, None]).exp_().sum(-1).double()  # (R)
        if group is not None:
            dist.all_reduce(total, group=group)
        found.append(wanted_logits.double() - (total.log_() + highest.double())[own])
        greedy.append(likeliest[own] == wanted)
    return torch.cat(found), torch.cat(greedy)


def _over_all(highest: Tensor, likeliest: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """The highest logit (R) of all ranks, and the first token that has it (R)."""
    own = highest.clone()
    dist.all_reduce(highest, dist.ReduceOp.MAX, group)
    token = torch.full_like(highest, torch.iinfo(torch.int32).max, dtype=torch.int64)
    if len(likeliest):
        token = torch.where(own == highest, likeliest, token)
    dist.all_reduce(token, dist.ReduceOp.MIN, group)
    return highest, token
