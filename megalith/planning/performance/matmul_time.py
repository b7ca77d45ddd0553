"""Matrix products on an accelerator: what tiles and waves waste, how depth pays, and the floor that memory sets.

A product of (M, K) by (K, N) is cut into tiles, which are dealt to the multiprocessors in waves; a tile at the edge and
the last wave cost as much as full ones (NVIDIA, Matrix Multiplication Background User's Guide). Short inner dimensions
do not repay a tile's start and end.
"""

import functools
from typing import NamedTuple

from megalith.planning.performance.constants import Constants
from megalith.topology import Accelerator

ELEMENT_BYTES = 2


class Product(NamedTuple):
    """The work of a matrix product, apart from the constants."""

    flops: float
    useful: float
    """Share of the tiles' and waves' work that is wanted."""
    depth: int
    """The inner dimension K."""
    wire_bytes: float
    """Both inputs and the output, each once through memory."""


@functools.lru_cache(maxsize=65536)
def product(m: int, n: int, k: int, device: Accelerator) -> Product:
    """(M, K) · (K, N) on `device`."""
    rows, columns = device.tile
    tiles_m, tiles_n = -(-m // rows), -(-n // columns)
    tiles = tiles_m * tiles_n
    waves = -(-tiles // device.multiprocessors)
    useful = (m * n) / (tiles * rows * columns) * tiles / (waves * device.multiprocessors)
    return Product(2.0 * m * n * k, useful, k, ELEMENT_BYTES * (float(m) * k + float(k) * n + float(m) * n))


def products_seconds(
    products: tuple[Product, ...], peak: float, hbm_bytes_per_second: float, constants: Constants
) -> float:
    """Seconds of `products`, one after another: each as fast as its shape or the memory lets it."""
    reach, half, power = peak * constants.gemm, constants.gemm_half_depth, constants.quantisation
    total = 0.0
    for flops, useful, depth, wire_bytes in products:
        computing = flops * (depth + half) / (reach * useful**power * depth)
        moving = wire_bytes / hbm_bytes_per_second
        total += computing if computing > moving else moving
    return total
