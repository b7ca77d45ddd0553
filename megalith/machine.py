"""What this machine is: its processor, its cores and memory, and how fast it multiplies and copies.

Rates are measured, not looked up, and the best of several attempts counts: a busy neighbour makes an attempt slower,
nothing makes it faster. Torch's thread setting is put back after each measurement.
"""

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

from megalith.kernels import linear

PEAK_SIZES = (512, 1024, 2048)
_CGROUP = Path("/sys/fs/cgroup")


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and its control group's share rounded down to whole cores."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return max(1, min(affinity, int(quota) // int(period)))  # "max" is no number: no limit
    return affinity


def total_memory_bytes() -> int:
    """Memory of the machine, or of the control group where that is less."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        return min(total, int((_CGROUP / "memory.max").read_text()))
    return total


def available_memory_bytes() -> int:
    """Memory that a new process could take now without swapping."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        used = int((_CGROUP / "memory.current").read_text())
        return max(0, min(available, total_memory_bytes() - used))
    return available


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


def compute_deterministically() -> None:
    """Have torch choose algorithms that give the same bits each time, without the cost of filling new memory."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses; read at its first call
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
