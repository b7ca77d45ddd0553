"""Workers, forks of this process, that take the cases of a part in turn."""

import contextlib
import json
import os
import random
import selectors
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.attack.cases import Found
from tests.attack.command import run

Try = Callable[[int, random.Random, Path], Found]
"""One case by its number, with its own dice, in a directory of its own."""


def attempt(part: str, one: Try, seed: int, number: int, work: Path, *, keep: bool) -> Found:
    """Run one case, and remove its directory unless it failed and is to be kept."""
    room = work / f"{part}-{number:05d}"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    try:
        found = one(number, random.Random(f"{seed} {part} {number}"), room)
    except Exception:  # noqa: BLE001 - a fault of the attack itself is told as a case that failed
        found = Found(part, "the attack itself", number, "traceback", traceback.format_exc()[-1500:])
    if not keep:
        shutil.rmtree(room, ignore_errors=True)
    return found


def attempt_all(
    part: str, one: Try, seed: int, numbers: Sequence[int], work: Path, *, jobs: int, keep: bool = False
) -> Iterator[Found]:
    """Run cases in `jobs` processes, in whatever order they end."""
    jobs = max(1, min(jobs, len(numbers)))
    selector = selectors.DefaultSelector()
    children = []
    sys.stdout.flush()
    for job in range(jobs):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            try:
                with os.fdopen(writer, "w") as told:
                    for number in numbers[job::jobs]:
                        found = attempt(part, one, seed, number, work, keep=keep)
                        told.write(json.dumps(asdict(found)) + "\n")
                        told.flush()
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent does
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writer)
        children.append(child)
        selector.register(os.fdopen(reader), selectors.EVENT_READ)
    while selector.get_map():
        for key, _ in selector.select():
            line = key.fileobj.readline()  # type: ignore[union-attr]  # files alone are registered
            if line:
                yield Found(**json.loads(line))
            else:
                selector.unregister(key.fileobj)
    for child in children:
        os.waitpid(child, 0)


def preload(commands: Sequence[Sequence[str]], room: Path) -> None:
    """Import here what these commands import, so that each fork has it already."""
    names = room / "modules.json"
    for argv in commands:
        run(argv, room, before=lambda: _tell_modules(names))
        if names.is_file():
            for name in json.loads(names.read_text()):
                if name not in sys.modules and not name.endswith("__main__"):
                    with contextlib.suppress(Exception):
                        __import__(name)
            names.unlink()


def _tell_modules(path: Path) -> None:
    end = os._exit

    def tell(code: int) -> None:
        with contextlib.suppress(OSError):
            path.write_text(json.dumps(sorted(sys.modules)))
        end(code)

    os._exit = tell  # type: ignore[assignment]  # the fork must not end unheard
