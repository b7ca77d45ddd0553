"""From fastText's logits to the probabilities that it reports, for each of its four losses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HIERARCHICAL_SOFTMAX, NEGATIVE_SAMPLING, SOFTMAX, ONE_VERSUS_ALL = 1, 2, 3, 4
LOSSES = (HIERARCHICAL_SOFTMAX, NEGATIVE_SAMPLING, SOFTMAX, ONE_VERSUS_ALL)
ADDED = 1e-5
"""To what fastText takes the logarithm of."""
_SIGMOID_STEPS, _SIGMOID_END = 512, 8


@dataclass(frozen=True)
class Tree:
    """A binary tree: node n ≥ labels has left[n − labels] and right[n − labels] below it; the last node is the root."""

    labels: int
    left: tuple[int, ...]
    right: tuple[int, ...]


def huffman(counts: list[int]) -> Tree:
    """fastText's tree for labels of these counts, which come with the most frequent first."""
    labels = len(counts)
    weights = [*counts, *[10**15] * (labels - 1)]
    leaf, node = labels - 1, labels
    children: list[tuple[int, int]] = []
    for inner in range(labels, 2 * labels - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weights[inner] = weights[pair[0]] + weights[pair[1]]
        children.append((pair[0], pair[1]))
    return Tree(labels, tuple(left for left, _ in children), tuple(right for _, right in children))


def probabilities(logits: Array, loss: int, tree: Tree | None) -> Array:
    """float32 (documents, labels), each with fastText's 1e-5, at most 1; of float32 logits (documents, labels)."""
    if tree is not None:
        return _descend(logits, tree)
    if loss == SOFTMAX:
        grown = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = grown / grown.sum(axis=1, keepdims=True)
    else:
        found = _table_sigmoid(logits)
    return np.asarray(np.minimum(found + np.float32(ADDED), np.float32(1)))


def _descend(logits: Array, tree: Tree) -> Array:
    """A label's probability is the product of the turns on the way to it from the root."""
    logarithms = np.zeros((2 * tree.labels - 1, len(logits)))
    for inner in range(2 * tree.labels - 2, tree.labels - 1, -1):
        right = 1.0 / (1.0 + np.exp(-logits[:, inner - tree.labels].astype(np.float64)))
        logarithms[tree.left[inner - tree.labels]] = logarithms[inner] + np.log(1.0 - right + ADDED)
        logarithms[tree.right[inner - tree.labels]] = logarithms[inner] + np.log(right + ADDED)
    return np.asarray(np.minimum(np.exp(logarithms[: tree.labels].T), 1.0), np.float32)


def _table_sigmoid(values: Array) -> Array:
    """fastText takes σ from a table of 512 steps between −8 and 8."""
    steps = np.arange(_SIGMOID_STEPS + 1, dtype=np.float32) * (2 * _SIGMOID_END / _SIGMOID_STEPS) - _SIGMOID_END
    table = (1.0 / (1.0 + np.exp(-steps))).astype(np.float32)
    places = (
        (np.clip(values, -_SIGMOID_END, _SIGMOID_END) + _SIGMOID_END) * (_SIGMOID_STEPS / _SIGMOID_END / 2)
    ).astype(int)
    found = table[places]
    found[values < -_SIGMOID_END] = 0.0
    found[values > _SIGMOID_END] = 1.0
    return np.asarray(found)
