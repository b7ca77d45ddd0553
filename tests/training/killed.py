"""A process that saves and is killed, at every file operation in turn and at arbitrary moments.

`python -m tests.training.killed DIRECTORY` prints, for each kill, which step is found afterwards. The processes that
die are forks of this one, so that torch is imported once.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from megalith.training.checkpoint import Progress, Saver, State, load, newest

STEPS = (2, 2, 3)
"""Step 1 stands already. Step 2 is saved again, as after a damaged checkpoint."""
LAST = STEPS[-1]
RUN = "run"
REMOVALS = ("os.remove", "os.rmdir")  # by names within the directory that is removed
OPERATIONS = ("open", "os.rename", "os.mkdir", "shutil.rmtree")
MOMENTS = 8
FEW, MANY = 4, 2**19  # elements


def state(step: int, elements: int) -> State:
    model = {"weight": torch.full((elements,), float(step))}
    steps = [{"step": each, "loss": 1 / each} for each in range(1, step + 1)]
    return State(Progress(run=RUN, step=step, steps=steps), model, {"weight.exp_avg": model["weight"] / 3})


def save(directory: Path, steps: Iterable[int], elements: int) -> None:
    saver = Saver(directory)
    for step in steps:
        saver.save(state(step, elements), keep=1)
    saver.wait()


def found_step(directory: Path, elements: int) -> int:
    """The step of the newest checkpoint, every element of which is as that step had it."""
    found = newest(directory, RUN)
    assert found is not None
    want = state(found.progress.step, elements)
    assert found.progress == want.progress
    got = {"weight": torch.empty(elements)}, {"weight.exp_avg": torch.empty(elements)}
    load(found, *got)
    assert torch.equal(got[0]["weight"], want.model["weight"])
    assert torch.equal(got[1]["weight.exp_avg"], want.optimizer["weight.exp_avg"])
    return found.progress.step


def fork(work: Callable[[], None]) -> int:
    """The process id of a fork of this process that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a fork must not go on as its parent does
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def was_killed(child: int) -> bool:
    """Wait for a fork, which must end well or be killed."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), "a saving process failed"
    return code != 0


def save_on(directory: Path, elements: int) -> None:
    save(directory, STEPS, elements)


def save_until_operation(count: int, directory: Path, elements: int) -> None:
    """Be killed right before the operation of this number on a file in the directory."""
    left = count

    def on_audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        within = str(arguments[0]).startswith(str(directory)) if arguments else False
        if event in REMOVALS or (event in OPERATIONS and within):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_audit)
    save_on(directory, elements)


def kill_at_each_operation(template: Path, run: Path) -> list[int]:
    """The step found after each kill. The process that takes up the run leaves nothing but the newest checkpoint."""
    found: list[int] = []
    while True:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(template, run)
        if not was_killed(fork(lambda: save_until_operation(len(found), run, FEW))):
            return found
        found.append(found_step(run, FEW))
        if len(found) % 5:
            continue
        assert not was_killed(fork(lambda: save_on(run, FEW)))
        left = sorted(path.name for path in run.iterdir())
        assert left == ["latest", f"step-{LAST:08d}", "steps.jsonl", "validation.jsonl"], left
        assert found_step(run, FEW) == LAST


def kill_at_arbitrary_moments(template: Path, run: Path) -> list[int]:
    """The step found after each kill."""
    found = []
    shutil.copytree(template, run)
    start = time.monotonic()
    assert not was_killed(fork(lambda: save_on(run, MANY)))
    seconds = time.monotonic() - start
    for _ in range(MOMENTS):
        shutil.rmtree(run)
        shutil.copytree(template, run)
        child = fork(lambda: save_on(run, MANY))
        time.sleep(random.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        was_killed(child)
        found.append(found_step(run, MANY))
    return found


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # a killed process takes with it nothing that it gave to the kernel
    for elements in (FEW, MANY):  # in a fork, so that this process never has a second thread
        assert not was_killed(fork(lambda: save(directory / f"first-{elements}", (1,), elements)))  # noqa: B023 - it is waited for
    found = {
        "at operations": kill_at_each_operation(directory / f"first-{FEW}", directory / "operations"),
        "at moments": kill_at_arbitrary_moments(directory / f"first-{MANY}", directory / "moments"),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
