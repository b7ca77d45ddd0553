"""How much memory the ranks have had at most: of the GPU where there is one, else of the machine."""

from pathlib import Path

import psutil
import torch

from megalith.parallel import Ranks


def peak_memory_by_rank(ranks: Ranks) -> list[int]:
    """What each rank has had at most, by rank; every rank calls it."""
    own = peak_memory_bytes()
    return [int(each) for each in ranks.sum(*(own if rank == ranks.rank else 0 for rank in range(ranks.count)))]


def peak_memory_bytes() -> int:
    """The most memory that this process has had: allocated on its GPU, or else resident.

    Not getrusage's ru_maxrss where it can be helped: that one is inherited from the process that started this one.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def reserved_memory_bytes() -> int | None:
    """The most that PyTorch has taken of this process's GPU, free blocks of its own included; None without a GPU."""
    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
