"""Spherical k-means: clusters by cosine, each with a centroid of length 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from megalith.inference.embedder import one_thread

Array = npt.NDArray[Any]

MOST_ITERATIONS = 25
POINTS_PER_CENTROID = 256
"""More do not move a centroid much: no more are drawn to train on."""
BLOCK = 4096
"""Vectors at a time."""


def train(points: Array, clusters: int, told: Callable[[int, int], None] = lambda done, total: None) -> Array:
    """The centroids (clusters, E) of `points` (n, E) of length 1, in random order: the first are where it begins.

    A cluster that loses all its points begins again at the one that lies farthest from its centroid. It ends when no
    point changes its cluster, or after 25 iterations.
    """
    centroids = points[:clusters].astype(np.float32)
    before = np.full(len(points), -1, np.int32)
    for iteration in range(MOST_ITERATIONS):
        told(iteration, MOST_ITERATIONS)
        nearest, cosines = assign(points, centroids)
        if np.array_equal(nearest, before):
            break
        before = nearest
        sums = np.zeros(centroids.shape, np.float64)
        for start in range(0, len(points), BLOCK):
            order = np.argsort(nearest[start : start + BLOCK], kind="stable")
            found, firsts = np.unique(nearest[start : start + BLOCK][order], return_index=True)
            sums[found] += np.add.reduceat(points[start : start + BLOCK][order].astype(np.float64), firsts)
        empty = np.flatnonzero(np.bincount(nearest, minlength=clusters) == 0)
        sums[empty] = points[np.argsort(cosines, kind="stable")[: len(empty)]]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centroids = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centroids).astype(np.float32)
    return centroids


def assign(points: Array, centroids: Array) -> tuple[Array, Array]:
    """The nearest centroid of each point, int32 (n,), and their cosine, float32 (n,)."""
    nearest, cosines = np.empty(len(points), np.int32), np.empty(len(points), np.float32)
    with one_thread():
        columns = torch.from_numpy(centroids).T
        for start in range(0, len(points), BLOCK):
            some = torch.from_numpy(np.asarray(points[start : start + BLOCK], np.float32))
            best = (some @ columns).max(dim=1)
            cosines[start : start + BLOCK] = best.values.numpy()
            nearest[start : start + BLOCK] = best.indices.numpy()
    return nearest, cosines
