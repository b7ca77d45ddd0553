"""How the threads of a matrix product wait for each other."""

import os

SPINS = "1000"


def wait_politely() -> None:
    """Have OpenMP's threads spin shortly before they sleep; call it before torch is imported, or for new processes.

    Left alone, libgomp spins 300,000 times, which burns the very core that a descheduled thread is waiting for as soon
    as another program runs beside us. See docs/decisions/008-threads-wait-politely.md for the measurement. A user's own
    GOMP_SPINCOUNT is respected.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
