"""Matrix products on an accelerator: what tiles and waves waste, how depth pays, and the floor that memory sets.

A product of (M, K) by (K, N) is cut into tiles, which are dealt to the multiprocessors in waves; a tile at the edge and
the last wave cost as much as full ones (NVIDIA, Matrix Multiplication Background User's Guide). Short inner dimensions
do not repay a tile's start and end.
"""

import functools
import math
from typing import NamedTuple

from megalith.planning.performance.constants import Constants
from megalith.precision import Fp8
from megalith.topology import Accelerator

ELEMENT_BYTES = 2
USUAL_WATTS = {"v100": 300 / 125, "a100": 400 / 312, "h100": 700 / 989.5, "b200": 1000 / 2250, "mi300x": 750 / 1307.4}
"""Watts for each TFLOP/s of the peak on the boards that were measured (datasheets)."""
BLOCK_SCALED = 0.85  # on Hopper, block scales are applied outside the tensor cores (2412.19437 §3.3.2, DeepGEMM)


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


class Engine(NamedTuple):
    """Rates that matrix products of one number format reach on an accelerator."""

    flops_per_second: float
    """Rate of a large product."""
    half_depth: float
    """The inner dimension at which a product reaches half of that."""
    quantisation: float
    """Exponent on the share of tiles and waves that do useful work."""
    hbm_bytes_per_second: float


def sustained(device: Accelerator) -> float:
    """Share of its rate that this board's power limit leaves it, beside its generation's usual board.

    Large products run at the power limit, where power grows with the third power of the clock (frequency × voltage²).
    """
    usual = USUAL_WATTS.get(device.generation)
    if not usual or not device.tdp_watts:
        return 1.0
    peak = device.peak("bf16") / 1e12  # in TFLOP/s
    return min(1.0, math.cbrt(device.tdp_watts / peak / usual))


def engine(device: Accelerator, precision: str, fp8: Fp8 | None, constants: Constants) -> Engine:
    """Products in `precision`, or in fp8: a tile's start and end take as long as in bf16, and so twice the depth."""
    power, memory = constants.quantisation, device.hbm_bytes_per_second * constants.memory
    share = constants.gemm * sustained(device)
    if fp8 is None:
        return Engine(device.peak(precision) * share, constants.gemm_half_depth, power, memory)
    reach = device.peak("fp8") * share * constants.fp8_gemm
    if fp8 == "block" and device.generation == "h100":
        reach *= BLOCK_SCALED
    ratio = device.peak("fp8") / device.peak("bf16")
    return Engine(reach, constants.gemm_half_depth * ratio, power, memory * ratio)


def products_seconds(products: tuple[Product, ...], reached: Engine) -> float:
    """Seconds of `products`, one after another: each as fast as its shape or the memory lets it."""
    reach, half, power, hbm_bytes_per_second = reached
    total = 0.0
    for flops, useful, depth, wire_bytes in products:
        computing = flops * (depth + half) / (reach * useful**power * depth)
        moving = wire_bytes / hbm_bytes_per_second
        total += computing if computing > moving else moving
    return total
