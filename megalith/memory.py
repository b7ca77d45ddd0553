"""How much memory a piece of work took: the process and all its children, sampled."""

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL_SECONDS = 1.0


class PeakMemory:
    """Samples the resident memory of this process and its descendants while the block runs.

    `bytes` is the largest sum seen. Pages that processes share are counted once for each (it never says too little, but
    for peaks shorter than the interval).
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak-memory")

    def __enter__(self) -> "PeakMemory":
        self.bytes = resident_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self.bytes = max(self.bytes, resident_bytes())


def resident_bytes() -> int:
    """Resident memory of this process and its descendants, now."""
    total = 0
    me = psutil.Process(os.getpid())
    with contextlib.suppress(psutil.Error):
        for process in (me, *me.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, of this machine and of this control group, so far."""
    found = 0
    for file in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            for line in Path(file).read_text().splitlines():
                name, _, value = line.partition(" ")
                found += int(value) if name == "oom_kill" else 0
    return found
