"""One run of the command `megalith` in a fork of this process, under limits, and how it ended.

A fork runs `megalith.cli.main` as the installed command does, without importing everything anew for each of thousands
of cases. It leads a session of its own, so that whatever it starts can be found and ended.
"""

import contextlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS = 30
"""A process of a case that takes more hangs. Its share of a loaded machine does not matter."""
WALL_SECONDS = 300.0
MEMORY_BYTES = 24 * 2**30
"""Bytes of address space: torch and Arrow reserve many that they never touch."""
FILE_BYTES = 2**31
GONE_SECONDS = 20.0
"""How long the processes of a killed command may take to end."""
WRITES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")
CASE = "MEGALITH_ATTACK_CASE"


@dataclass(frozen=True)
class Ended:
    """How a run ended. `code` is negative for a signal, as `subprocess` has it."""

    code: int
    out: str
    err: str
    hung: bool
    killed: bool
    operations: int
    seconds: float
    survivors: tuple[str, ...]
    """Command lines of processes that outlived it."""

    @property
    def said(self) -> str:
        return self.err + self.out


@dataclass(frozen=True)
class Kill:
    """When a run is killed: at a file operation by its number, after a time, or when a file appears in its room."""

    operation: int | None = None
    after_seconds: float | None = None
    appears: str | None = None
    """A pattern of paths in the room."""
    alone: bool = False
    """The process itself, and not those that it started."""


def run(
    argv: Sequence[str],
    room: Path,
    *,
    kill: Kill | None = None,
    environment: Mapping[str, str | None] | None = None,
    cpu_seconds: int = CPU_SECONDS,
    wall_seconds: float = WALL_SECONDS,
    before: Callable[[], None] | None = None,
) -> Ended:
    """Run `megalith ARGV...` in the directory `room` and wait for it. `before` is called in the fork first."""
    logs = room / ".attack"
    (logs / "tmp").mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(argv, room, logs, kill, environment or {}, cpu_seconds, before)
    hung, killed = _wait(child, room, kill, wall_seconds)
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - start
    code = os.waitstatus_to_exitcode(status)
    survivors = _survivors(child, logs, GONE_SECONDS if killed or hung else 3.0)
    operations = logs / "operations"
    ended = Ended(
        code=code,
        out=(logs / "out").read_text(encoding="utf-8", errors="replace"),
        err=(logs / "err").read_text(encoding="utf-8", errors="replace"),
        hung=hung or code == -signal.SIGXCPU,
        killed=killed or (kill is not None and code == -signal.SIGKILL),
        operations=int(operations.read_text()) if operations.is_file() else 0,
        seconds=seconds,
        survivors=survivors,
    )
    operations.unlink(missing_ok=True)
    return ended


def _become(
    argv: Sequence[str],
    room: Path,
    logs: Path,
    kill: Kill | None,
    environment: Mapping[str, str | None],
    cpu_seconds: int,
    before: Callable[[], None] | None,
) -> None:
    """Be the command from here on; never returns."""
    end = os._exit
    try:
        os.setsid()
        os.chdir(room)
        for name, descriptor, flags in (
            (os.devnull, 0, os.O_RDONLY),
            (str(logs / "out"), 1, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (str(logs / "err"), 2, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(name, flags, 0o644)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update({"TMPDIR": str(logs / "tmp"), CASE: str(logs), "COLUMNS": "160", "MEGALITH_TRACEBACK": "1"})
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        import tempfile

        tempfile.tempdir = None
        sys.argv = ["megalith", *argv]
        _count_operations(room, logs, kill)
        if before is not None:
            before()
        from megalith.cli import main

        main()
    except BaseException:  # noqa: BLE001 - whatever escapes is what this looks for
        traceback.print_exc()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        end(70)
    end(71)  # main has returned without ending the process


def _count_operations(room: Path, logs: Path, kill: Kill | None) -> None:
    """Count what this process does to files in the room, write it down at the end, and be killed at one of them."""
    counted = 0
    inside, own = str(room), str(logs)
    end = os._exit
    main = os.getpid()

    def on_audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal counted
        if event not in WRITES or not arguments or os.getpid() != main:
            return
        if event == "open" and not _opens_to_write(arguments):
            return
        name = arguments[0]
        if isinstance(name, int):
            return
        path = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
        by_name = not path.startswith("/")  # within the directory that is removed, or the room, where the command runs
        if path.startswith(own) or not (by_name or path.startswith(inside)):
            return
        if kill is not None and kill.operation is not None and counted >= kill.operation:
            os.killpg(0, signal.SIGKILL)
            time.sleep(60)
        counted += 1

    def end_and_tell(code: int) -> None:
        if os.getpid() == main:
            with contextlib.suppress(OSError):
                (logs / "operations").write_text(str(counted))
        end(code)

    sys.addaudithook(on_audit)
    os._exit = end_and_tell  # type: ignore[assignment]  # the fork must not end unheard


def _opens_to_write(arguments: tuple[object, ...]) -> bool:
    mode, flags = (*arguments, None, None)[1:3]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _wait(child: int, room: Path, kill: Kill | None, wall_seconds: float) -> tuple[bool, bool]:
    """Whether it hung, and whether it was killed here."""
    handle = os.pidfd_open(child)
    try:
        if kill is not None and kill.after_seconds is not None:
            if not select.select([handle], [], [], kill.after_seconds)[0]:
                _end(child, alone=kill.alone)
                return False, True
            return False, False
        until = time.monotonic() + wall_seconds
        while kill is not None and kill.appears is not None and time.monotonic() < until:
            if next(room.glob(kill.appears), None) is not None:
                _end(child, alone=kill.alone)
                return False, True
            if select.select([handle], [], [], 0.001)[0]:
                return False, False
        if not select.select([handle], [], [], wall_seconds)[0]:
            _end(child, alone=False)
            return True, False
        return False, False
    finally:
        os.close(handle)


def _end(child: int, *, alone: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if alone:
            os.kill(child, signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)


def _survivors(session: int, logs: Path, patience: float) -> tuple[str, ...]:
    """The processes that still run of a session, or were started with its environment; they are ended."""
    until = time.monotonic() + patience
    while found := _processes(session, logs):
        if time.monotonic() > until:
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return tuple(found.values())
        time.sleep(0.05)
    return ()


def _processes(session: int, logs: Path) -> dict[int, str]:
    mark = f"{CASE}={logs}".encode()
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            if int(fields[3]) == session or mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError, IndexError):
            continue
    return found
