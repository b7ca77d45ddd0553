"""Ranks that Slurm's `srun` has started: torchrun's environment variables from Slurm's own."""

import os
import re
from collections.abc import Mapping

FIRST_PORT, PORTS = 15000, 15000  # below those that the system hands out


def take_up_slurm() -> None:
    """Set RANK and its like if `srun` has started this process as one of several and nobody has set them."""
    if "RANK" not in os.environ:
        os.environ.update(launched_by_slurm(os.environ))


def launched_by_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT; none outside of a step of several.

    A batch script has Slurm's variables too, and is not a step: it starts a single process without srun. The ranks
    meet on the first node of the step, at a port that follows from the job's number.
    """
    step = environment.get("SLURM_STEP_ID")
    count = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    if step is None or "SLURM_PROCID" not in environment or int(count) < 2:
        return {}
    nodes = hosts(environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"])
    tasks = _tasks_by_node(environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE", ""))
    here = int(environment.get("SLURM_NODEID", "0"))
    local = {"LOCAL_WORLD_SIZE": str(tasks[here])} if here < len(tasks) else {}
    return local | {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": count,
        "LOCAL_RANK": "0" if _sees_its_own_gpu_alone(environment) else environment["SLURM_LOCALID"],
        "MASTER_ADDR": nodes[0] if len(nodes) > 1 else "127.0.0.1",
        "MASTER_PORT": str(FIRST_PORT + (31 * int(environment["SLURM_JOB_ID"]) + int(step)) % PORTS),
    }


def _sees_its_own_gpu_alone(environment: Mapping[str, str]) -> bool:
    """Whether Slurm has bound a GPU to each task, which finds it as its first and only one (`--gpus-per-task=1`)."""
    seen = environment.get("CUDA_VISIBLE_DEVICES", environment.get("ROCR_VISIBLE_DEVICES", ""))
    return (
        environment.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2] == "1"
        and len(seen.split(",")) == 1
        and seen != ""
    )


def hosts(nodelist: str) -> list[str]:
    """The names that Slurm abbreviates, in order: `a[01-03,7],b` is a01, a02, a03, a7 and b."""
    found = []
    for entry in re.findall(r"(?:\[[^\]]*\]|[^,\[\]])+", nodelist):
        names = [""]
        for place, part in enumerate(re.split(r"\[([^\]]*)\]", entry)):
            names = [name + choice for name in names for choice in (_numbers(part) if place % 2 else [part])]
        found += names
    return found


def _numbers(ranges: str) -> list[str]:
    """`01-03,7` as 01, 02, 03, 7: as many digits as the first of a range has."""
    found = []
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        found += [f"{number:0{len(first)}d}" for number in range(int(first), int(last or first) + 1)]
    return found


def _tasks_by_node(said: str) -> list[int]:
    """`4(x2),3` as 4, 4, 3."""
    return [int(count) for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", said) for _ in range(int(times or 1))]
