"""The process that runs a program which a model wrote; `sandbox.py` starts it, in a directory of its own.

Run as a script in a fresh, isolated interpreter (-I), standard library alone. Before the program begins the process
takes leave of what it could harm: it dies with its parent; processor time, memory, size of files, open files and
processes are limited by the kernel; the network is left (a namespace without devices) where the kernel lets a user do
so; and an audit hook refuses files outside the standard library, processes, sockets and foreign code.

This is a fence against the accidents of a small model, not a wall against an attacker: a hook within the interpreter
can be got round by someone who means to.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_REFUSED = ("socket.", "subprocess.", "os.", "shutil.", "ctypes.", "sqlite3.", "pty.", "webbrowser.", "signal.", "gc.")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Read {program, function, calls, seconds, bytes, parent} from standard input; write {network, results} or {error}.

    A result is [value], or an error's name and text.
    """
    asked = json.load(sys.stdin)
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the program prints is nobody's answer
    network = _confine(asked["seconds"], asked["bytes"], asked["parent"])
    space: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(asked["program"], "program", "exec"), space)
        function = space[asked["function"]]
    except BaseException as error:  # noqa: BLE001 - a stranger's program: SystemExit and worse
        told: dict[str, Any] = {"error": _name(error)}
    else:
        told = {"results": [_call(function, arguments) for arguments in asked["calls"]]}
    os.write(answer, json.dumps({"network": network, **told}).encode())
    os._exit(0)  # without the program's own farewells


def _call(function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        value = function(*arguments)
        json.dumps(value)
    except BaseException as error:  # noqa: BLE001 - a stranger's program
        return _name(error)
    return [value]


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _confine(seconds: int, memory: int, parent: int) -> str:
    """Limit this process for good; returns how the network is kept away: `namespace` or `hook`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux":
        libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    network = "hook"
    if sys.platform == "linux" and libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        network = "namespace"
    for limit, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (most, most))
    readable = tuple({os.path.realpath(place) + os.sep for place in (sys.base_prefix, sys.prefix)})

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            inside = isinstance(path, str | bytes) and os.path.realpath(os.fsdecode(path)).startswith(readable)
            if not inside or (isinstance(flags, int) and flags & _WRITING):
                raise PermissionError("files are refused to a program that a model wrote")
        elif event.startswith(_REFUSED) and event not in ("os.listdir", "os.scandir"):
            raise PermissionError(f"{event} is refused to a program that a model wrote")

    sys.addaudithook(hook)
    return network


if __name__ == "__main__":
    main()
