"""A Slurm of one machine: `srun` starts the tasks of a step with Slurm's variables, `sbatch` and `scontrol` take notes.

Run as `fake_slurm.py NAME ARGUMENTS`, by the wrappers that `install` writes. With FAKE_SIGNAL (a name) and FAKE_WHEN (a
file and a number of lines), `srun` signals its tasks once the file has as many, as Slurm does before a time limit.
"""

import os
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

GRACE_SECONDS = 60
JOB = "4711"


def install(folder: Path) -> dict[str, str]:
    """An environment in which the commands are found first; what they are called with is in folder/calls."""
    folder.mkdir()
    for name in ("srun", "sbatch", "scontrol", "kubectl"):
        wrapper = folder / name
        wrapper.write_text(f'#!/bin/bash\nexec {sys.executable} {__file__} {name} "$@"\n')
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    left_out = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return kept | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "FAKE_CALLS": str(folder / "calls"),
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NODELIST": "localhost",
        "OMP_NUM_THREADS": "1",
    }


def calls(environment: Mapping[str, str]) -> list[str]:
    """Commands that have been called, in order, a line each."""
    path = Path(environment["FAKE_CALLS"])
    return path.read_text().splitlines() if path.is_file() else []


def options(script: str) -> list[str]:
    """The options in a batch script, a word each."""
    return [word for line in script.splitlines() if line.startswith("#SBATCH ") for word in shlex.split(line)[1:]]


def main(name: str, arguments: list[str]) -> int:
    with Path(os.environ["FAKE_CALLS"]).open("a") as noted:
        noted.write(" ".join([name, *arguments]) + "\n")
    if name == "sbatch":
        sys.stdout.write(f"{100 + len(calls(os.environ))};cluster\n")
    return _srun(arguments) if name == "srun" else 0


def _srun(arguments: list[str]) -> int:
    options = [argument for argument in arguments if argument.startswith("--")]
    first = next(place for place, argument in enumerate(arguments) if not argument.startswith("--"))
    options, command = arguments[:first], arguments[first:]
    given = dict(option.removeprefix("--").partition("=")[::2] for option in options)
    count = int(given["ntasks"])
    assert int(given["nodes"]) == 1, "this is one machine"
    step = str(len([call for call in calls(os.environ) if call.startswith("srun")]) - 1)
    shared = {
        "SLURM_STEP_ID": step,
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_TASKS_PER_NODE": str(count),
        "SLURM_NODEID": "0",
    }
    tasks = [
        subprocess.Popen(command, env={**os.environ, **shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)})
        for rank in range(count)
    ]
    signalled = "FAKE_SIGNAL" not in os.environ
    while any(task.poll() is None for task in tasks):
        if not signalled and _is_time():
            signalled = True
            for task in tasks:
                task.send_signal(getattr(signal, os.environ["FAKE_SIGNAL"]))
        if "--kill-on-bad-exit=1" in options and any(task.poll() for task in tasks):
            time.sleep(0.2)  # the word takes its time to all nodes
            for task in tasks:
                task.kill()
        time.sleep(0.05)
    codes = [task.returncode if task.returncode >= 0 else 128 - task.returncode for task in tasks]
    first_bad = [code for code in codes if code not in (0, 128 + signal.SIGKILL)]
    return max(first_bad or codes)


def _is_time() -> bool:
    path, _, lines = os.environ["FAKE_WHEN"].rpartition(":")
    try:
        return len(Path(path).read_text().splitlines()) >= int(lines)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
