"""Common properties of child processes: how their threads wait, how much memory they keep, and that they do not outlive
their parent.
"""

import contextlib
import ctypes
import os
import signal
import sys

SPINS = "1000"
_PR_SET_PDEATHSIG = 1
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
_MOST_FROM_HEAP = 32 * 2**20  # glibc allows no more
_OWN_PAGES = 256 * 2**10
_NEVER = 2**31 - 1


def wait_politely() -> None:
    """Have OpenMP's threads spin shortly before they sleep; call it before torch is imported, or for new processes.

    Left alone, libgomp spins 300,000 times, which burns the very core that a descheduled thread is waiting for as soon
    as another program runs beside us. See docs/decisions/008-threads-wait-politely.md for the measurement. A user's own
    GOMP_SPINCOUNT is respected.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step, instead of giving it back to the kernel.

    Else each step is handed new pages, which the kernel must find and clear: 20,000 to 30,000 page faults, a quarter of
    the quickstart's step (docs/how-this-machine-is-measured.md). Other C libraries than glibc are left alone.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_MMAP_THRESHOLD, _MOST_FROM_HEAP)
            mallopt(_TRIM_THRESHOLD, _NEVER)


def return_freed_memory() -> None:
    """Have a process that lives long give back what it frees; call it before torch is imported.

    glibc raises the size from which a block has pages of its own with every large block that is freed, and from then on
    keys and values of many sizes leave holes in the heap. oneDNN keeps 1,024 compiled products, one for each number of
    rows. `megalith serve` under load grew by 350 MB a minute with both, and stands still after two minutes without.
    A user's own ONEDNN_PRIMITIVE_CACHE_CAPACITY is respected.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _OWN_PAGES)


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, however it dies; do so now if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
