"""What processes that this one starts have in common: how their threads wait, and that they do not outlive it."""

import ctypes
import os
import signal
import sys

SPINS = "1000"
_PR_SET_PDEATHSIG = 1


def wait_politely() -> None:
    """Have OpenMP's threads spin shortly before they sleep; call it before torch is imported, or for new processes.

    Left alone, libgomp spins 300,000 times, which burns the very core that a descheduled thread is waiting for as soon
    as another program runs beside us. See docs/decisions/008-threads-wait-politely.md for the measurement. A user's own
    GOMP_SPINCOUNT is respected.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies, however it dies; do so now if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
