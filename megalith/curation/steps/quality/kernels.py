"""The loops of the quality classifier: hashed words and pairs, logistic regression by AdaGrad, logits."""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@numba.njit(cache=True, nogil=True)
def logits(hashes: Array, bounds: Array, pairs: bool, typical_words: int, weights: Array, bias: float) -> Array:
    """The logit of each document, float64; documents are hashes[bounds[d]:bounds[d + 1]], uint32."""
    found = np.empty(len(bounds) - 1, np.float64)
    mask = np.uint64(len(weights) - 1)
    for document in range(len(found)):
        total = 0.0
        for place in range(bounds[document], bounds[document + 1]):
            total += weights[np.uint64(hashes[place]) & mask]
            if pairs and place > bounds[document]:
                total += weights[_pair(hashes[place - 1], hashes[place]) & mask]
        found[document] = bias + total * _scale(bounds[document + 1] - bounds[document], pairs, typical_words)
    return found


@numba.njit(cache=True, nogil=True)
def fit(
    hashes: Array,
    bounds: Array,
    positive: Array,
    pairs: bool,
    typical_words: int,
    learning_rate: float,
    weights: Array,
    squares: Array,
    bias: Array,
) -> None:
    """One pass of AdaGrad over documents, in their order. Changes `weights`, `squares` and `bias` (value, squares)."""
    mask = np.uint64(len(weights) - 1)
    for document in range(len(bounds) - 1):
        first = bounds[document]
        last = bounds[document + 1]
        total = 0.0
        for place in range(first, last):
            total += weights[np.uint64(hashes[place]) & mask]
            if pairs and place > first:
                total += weights[_pair(hashes[place - 1], hashes[place]) & mask]
        scale = _scale(last - first, pairs, typical_words)
        error = 1.0 / (1.0 + np.exp(-(bias[0] + total * scale))) - positive[document]
        bias[1] += error * error
        bias[0] -= learning_rate * error / np.sqrt(bias[1])
        step = np.float32(error * scale)
        for place in range(first, last):
            _descend(np.uint64(hashes[place]) & mask, step, learning_rate, weights, squares)
            if pairs and place > first:
                _descend(_pair(hashes[place - 1], hashes[place]) & mask, step, learning_rate, weights, squares)


@numba.njit(cache=True, nogil=True, inline="always")
def _descend(bucket: np.uint64, step: np.float32, learning_rate: float, weights: Array, squares: Array) -> None:
    squares[bucket] += step * step
    weights[bucket] -= np.float32(learning_rate) * step / np.sqrt(squares[bucket])


@numba.njit(cache=True, nogil=True, inline="always")
def _pair(first: np.uint32, second: np.uint32) -> np.uint64:
    state = (np.uint64(first) << np.uint64(32) | np.uint64(second)) * np.uint64(0x9E3779B97F4A7C15)
    return ((state ^ (state >> np.uint64(29))) * np.uint64(0xFF51AFD7ED558CCD)) >> np.uint64(32)


@numba.njit(cache=True, nogil=True, inline="always")
def _scale(words: int, pairs: bool, typical_words: int) -> float:
    """1/√features, so that evidence adds up as of independent features; of a long document only as of a typical one.

    Without that bound a book would be certain to be good, or bad, for its length alone.
    """
    share = np.sqrt(min(1.0, typical_words / max(1, words)))
    return float(share / np.sqrt(max(1, words) * (2 if pairs else 1)))
