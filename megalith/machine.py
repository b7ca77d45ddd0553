"""This machine as the system describes it: its processor, its cores and its memory. Without torch."""

import contextlib
import os
import platform
from pathlib import Path

import psutil

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
