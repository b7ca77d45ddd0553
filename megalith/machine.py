"""This machine as the system describes it: its processor, its cores, its memory, and its accelerators.

Only the question for accelerators loads torch, which knows what CUDA_VISIBLE_DEVICES leaves of them.
"""

import contextlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from megalith.errors import ResourceError

_CGROUP = Path("/sys/fs/cgroup")
_PROBE_SECONDS = 120  # to load torch and wake the cards, on a machine with other work too


@dataclass(frozen=True)
class Accelerators:
    """The GPUs of this machine that a program may use."""

    name: str
    """As torch names a card; where they differ, all the names."""
    count: int
    memory_bytes: int
    """Memory of one card, as a program finds it; where they differ, the least."""
    bf16: bool
    """Whether they multiply bf16 themselves; all can be asked to, and older ones only imitate it."""

    @property
    def all_memory_bytes(self) -> int:
        return self.count * self.memory_bytes


def accelerators() -> Accelerators | None:
    """The GPUs that this process may use, or None where it has none.

    Raises ResourceError where torch counts GPUs that then do not answer.
    """
    cards = _cards()
    if not cards:
        return None
    return Accelerators(
        name=" and ".join(sorted({str(card["name"]) for card in cards})),
        count=len(cards),
        memory_bytes=min(card["memory_bytes"] for card in cards),
        bf16=all(card["bf16"] for card in cards),
    )


@cache
def _cards() -> list[dict[str, Any]]:
    """Ask each GPU for what `asked` tells of it.

    They are asked in a process of its own: to be asked, a GPU takes memory until the process that asks ends, and one
    that allows a single process would be taken from the rank that trains on it.
    """
    import torch  # seconds of start-up, which most questions do without

    if not torch.cuda.is_available():
        return []
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # of torch's own
        return asked()
    probe = f"import json; from {__name__} import asked; print(json.dumps(asked()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe], check=True, capture_output=True, text=True, timeout=_PROBE_SECONDS,
            env=environment,
        )  # fmt: skip
        cards: list[dict[str, Any]] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        raise ResourceError(
            f"this machine has {torch.cuda.device_count()} GPUs that do not answer: {said}",
            mend="See nvidia-smi; CUDA_VISIBLE_DEVICES= trains on the CPU.",
        ) from error
    return cards


def asked() -> list[dict[str, Any]]:
    """Name, bytes of memory and `bf16` of each GPU, asked in this process."""
    import torch

    cards = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        {"name": card.name, "memory_bytes": card.total_memory, "bf16": bool(torch.version.hip) or card.major >= 8}
        for card in cards
    ]


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
