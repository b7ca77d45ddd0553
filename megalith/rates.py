"""How fast this machine multiplies and copies.

Rates are measured, not looked up, and the best of several attempts counts: a busy neighbour makes an attempt slower,
nothing makes it faster. Torch's thread setting is put back after each measurement.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import torch

from megalith.kernels import choose, linear, using

PEAK_SIZES = (512, 1024, 2048)


def measure_gemm_flops_per_second(
    dtype: torch.dtype,
    threads: int,
    shape: tuple[int, int, int] = (1024, 1024, 1024),
    seconds: float = 0.15,
) -> float:
    """FLOPs per second of an (M, K) × (K, N) product, shape = (M, K, N): the best of as many as fit in `seconds`."""
    m, k, n = shape
    left, right = torch.ones(m, k, dtype=dtype), torch.ones(k, n, dtype=dtype)
    out = torch.empty(m, n, dtype=dtype)
    weight = right.T.contiguous()
    with using_threads(threads), torch.no_grad():
        fastest = best_seconds(lambda: torch.mm(left, right, out=out), seconds)
        if dtype == torch.float32:  # a model's own products may be faster: see `kernels.linear`
            with using(choose(threads)):
                fastest = min(fastest, best_seconds(lambda: linear(left, weight), seconds))
    return 2 * m * k * n / fastest


def measure_peak_flops_per_second(dtype: torch.dtype, threads: int) -> float:
    """The most that a square product reaches: the yardstick of model FLOPs utilisation where no datasheet says."""
    return max(measure_gemm_flops_per_second(dtype, threads, (size, size, size)) for size in PEAK_SIZES)


@contextlib.contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Run the block with this many threads within an operation, and put the number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def best_seconds(work: Callable[[], object], seconds: float, least: int = 3) -> float:
    """The shortest of at least `least` calls, and of as many as fit in `seconds`; one call before does not count."""
    work()
    best, end, calls = math.inf, time.perf_counter() + seconds, 0
    while calls < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best
