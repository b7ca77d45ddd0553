"""A model that scores the passes over a prefix tree, in this process.

Log-softmax is over the vocabulary without its padding, and only where a token is scored: logits and their exponentials
in fp32, sums and what is subtracted in fp64, so that a sum of many log-probabilities keeps its digits.
"""

import copy
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megalith.inference.load import LanguageModel
from megalith.inference.prefix_tree import Pass
from megalith.inference.tree_attention import Tree, with_trees

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


def log_probabilities(features: Tensor, weight: Tensor, step: Pass) -> Scored:
    """Score a pass from the features of all its tokens (N, E), with the output projection `weight` (V, E)."""
    rows, pair_rows, targets = (
        torch.from_numpy(each).to(features.device) for each in (step.rows, step.pair_rows, step.targets)
    )
    found, first = [], []
    starts = range(0, len(rows), _ROWS)
    bounds = step.pair_rows.searchsorted([*starts, len(rows)]).tolist()
    for start, low, high in zip(starts, bounds, bounds[1:], strict=False):
        logits = torch.mm(features[rows[start : start + _ROWS]], weight.T).float()  # (R, V)
        own, wanted = pair_rows[low:high] - start, targets[low:high]
        highest, likeliest = logits.max(-1)  # (R)
        wanted_logits = logits[own, wanted].double()
        total = logits.sub_(highest[:, None]).exp_().sum(-1).double().log_() + highest.double()
        found.append(wanted_logits - total[own])
        first.append(likeliest[own] == wanted)
    return torch.cat(found), torch.cat(first)
