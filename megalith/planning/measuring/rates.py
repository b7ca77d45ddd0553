"""How fast this machine multiplies and copies.

Rates are measured, not looked up, and the best of several attempts counts: a busy neighbour makes an attempt slower,
nothing makes it faster. Torch's thread setting is put back after each measurement.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from megalith.kernels import choose, linear, using
from megalith.precision import DTYPE_NAMES, Precision

PEAK_SIZES = (256, 512, 1024, 2048)
LONGEST_SECONDS = 0.5  # that the products of the next size may promise to take
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
_FEWEST = 3  # calls that are timed, after one that is not


def measure_gemm_flops_per_second(
    dtype: torch.dtype,
    threads: int,
    shape: tuple[int, int, int] = (1024, 1024, 1024),
    seconds: float = 0.15,
) -> float:
    """FLOPs per second of an (M, K) × (K, N) product, shape = (M, K, N): the best of as many as fit in `seconds`."""
    m, k, n = shape
    fastest = 2 * m * k * n / measure_mm_flops_per_second(dtype, threads, shape, seconds)
    if dtype == torch.float32:  # a model's own products may be faster: see `kernels.linear`
        x, weight = torch.ones(m, k), torch.ones(n, k)
        with using_threads(threads), torch.no_grad(), using(choose(threads)):
            fastest = min(fastest, best_seconds(lambda: linear(x, weight), seconds))
    return 2 * m * k * n / fastest


def measure_mm_flops_per_second(dtype: torch.dtype, threads: int, shape: tuple[int, int, int], seconds: float) -> float:
    """The same of torch's own product alone, whichever kernels this processor would have chosen for it."""
    m, k, n = shape
    left, right = torch.ones(m, k, dtype=dtype), torch.ones(k, n, dtype=dtype)
    out = torch.empty(m, n, dtype=dtype)
    with using_threads(threads), torch.no_grad():
        return 2 * m * k * n / best_seconds(lambda: torch.mm(left, right, out=out), seconds)


def measure_peak_flops_per_second(dtype: torch.dtype, threads: int, known: float = 0.0) -> float:
    """The most that a square product reaches: the yardstick of model FLOPs utilisation where no datasheet says.

    A larger product is tried only while the rate so far, `known` among it, promises that it takes less than
    LONGEST_SECONDS.
    """
    most = known
    for size in PEAK_SIZES:
        if most and (1 + _FEWEST) * 2 * size**3 / most > LONGEST_SECONDS:
            break
        most = max(most, measure_gemm_flops_per_second(dtype, threads, (size, size, size)))
    return most


@dataclass(frozen=True)
class Rates:
    """How fast this machine multiplies, by precision."""

    flops_per_second: Mapping[Precision, float]
    """The most that a square product reaches on all cores, of each precision that is worth a try."""
    left_out: Mapping[Precision, str]
    """Precisions that are slower than fp32 here, each with the reason."""


def measure_rates(threads: int) -> Rates:
    """The rate of each precision on `threads` threads, less those whose small product is slower than that of fp32.

    A processor without bf16 instructions takes a hundred times as long for a bf16 product as for one in fp32; the small
    product on one thread tells so within a second.
    """
    size = PEAK_SIZES[0]
    small = {
        name: measure_mm_flops_per_second(_dtype(name), 1, (size, size, size), seconds=0.05) for name in PRECISIONS
    }
    left_out = {
        name: f"a product of {size} × {size} × {size} reaches {rate / 1e9:.3g} GFLOP/s on one thread, "
        f"and {small['fp32'] / 1e9:.3g} in fp32"
        for name, rate in small.items()
        if rate < small["fp32"]
    }
    kept = [name for name in PRECISIONS if name not in left_out]
    peaks = {name: measure_peak_flops_per_second(_dtype(name), threads, small[name]) for name in kept}
    return Rates(peaks, left_out)


def _dtype(precision: Precision) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, DTYPE_NAMES[precision])
    return dtype


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Run the block with this many threads within an operation, and put the number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def best_seconds(work: Callable[[], object], seconds: float, least: int = _FEWEST) -> float:
    """The shortest of at least `least` calls, and of as many as fit in `seconds`; one call before does not count."""
    work()
    best, end, calls = math.inf, time.perf_counter() + seconds, 0
    while calls < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best
