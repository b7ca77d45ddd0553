"""The process that imports modules and renders their pydoc pages; `crawl.py` starts it, several times over.

Run as a script in a fresh interpreter, standard library alone: importing a stranger's module may do anything, so this
process owns nothing. It cannot write outside its scratch directory, use the network or start a process (an audit hook
refuses), it dies with its parent, and a module that takes too long ends it. Each module leaves one line of JSON in the
spool; the first one without a line is the one that killed the process.
"""

import ctypes
import faulthandler
import importlib
import inspect
import json
import os
import pydoc
import re
import resource
import signal
import sys
import types
from collections.abc import Sequence
from typing import Any

MEMORY_BYTES = 1_500_000_000
"""Most private memory of a process: a module that needs more fails to import."""

IDLE = 3.0
"""A module may take this many times its seconds when it does not compute but waits, or the machine is busy."""

REFUSED = (
    "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr",
    "socket.sendto", "socket.sendmsg", "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty",
    "os.posix_spawn", "os.spawn", "os.startfile", "os.kill", "os.killpg", "pty.spawn", "webbrowser.open",
    "signal.pthread_kill",
)  # fmt: skip
CHANGES_FILES = (
    "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
    "os.utime", "shutil.rmtree", "sqlite3.connect",
)  # fmt: skip
ADDRESS = re.compile(r"( |&nbsp;)at( |&nbsp;)0x[0-9a-fA-F]{6,16}")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main(arguments: Sequence[str]) -> None:
    """Render the modules named after SPOOL, SCRATCH, the parent's process id, seconds and bytes per module."""
    spool_path, scratch, parent, seconds, maximum_bytes, *modules = arguments
    die_with(int(parent))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    spool = os.open(spool_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    watched = os.open(os.devnull, os.O_WRONLY)
    os.chdir(scratch)
    sys.argv = sys.orig_argv = ["python"]
    inspect.getcomments = lambda object: None  # of what has no docstring: it parses the whole file for each class
    pages = Pages(Portable(scratch), int(maximum_bytes))
    _refuse_side_effects(os.path.realpath(scratch))
    for name in modules:
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # of processor time: the same on a busy machine
        faulthandler.dump_traceback_later(IDLE * float(seconds), exit=True, file=watched)
        line = _render(pages, name)
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        os.write(spool, json.dumps({"module": name, **line}).encode() + b"\n")
    os._exit(0)  # without the modules' own farewells


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


class Portable:
    """Takes out of a text what differs between two machines or two runs: directories and object addresses."""

    def __init__(self, scratch: str) -> None:
        places = {entry: "" for entry in sys.path if entry.startswith("/")}
        places |= {sys.prefix: "/usr", sys.base_prefix: "/usr", scratch: "/tmp", os.path.realpath(scratch): "/tmp"}
        self._places = sorted(places.items(), key=lambda place: (-len(place[0]), place[0]))

    def __call__(self, text: str) -> str:
        for place, stand_in in self._places:
            text = text.replace(place, stand_in)
        return ADDRESS.sub("", text)


class Values(pydoc.HTMLRepr):
    """The values of a module's data: constants as they are, of anything else its type.

    The repr of objects holds addresses, directories and sets in the order of their hashes.
    """

    def __init__(self, portable: Portable) -> None:
        super().__init__()
        self._portable = portable

    def repr(self, object: object) -> str:
        if not _is_constant(object):
            kind = type(object)
            return str(self.escape(f"<{kind.__module__}.{kind.__qualname__}>"))
        return str(super().repr(object))

    def repr_str(self, x: Any, level: complex) -> str:
        return str(self.repr_string(self._portable(x), level))


class Pages(pydoc.HTMLDoc):
    """pydoc's HTML pages, the same on every run and of bounded length."""

    def __init__(self, portable: Portable, maximum_bytes: int) -> None:
        self._portable = portable
        self._maximum_bytes = maximum_bytes
        self._marked_up = 0
        self.repr = Values(portable).repr  # type: ignore[method-assign]  # pydoc itself sets it so

    def render(self, module: types.ModuleType, name: str) -> str:
        """The whole page of a module. Raises TooLongError, long before it is whole, when it would be too long."""
        self._marked_up = 0
        page = self._portable(self.page(pydoc.describe(module), self.document(module, name)))
        if len(page.encode(errors="replace")) > self._maximum_bytes:
            raise TooLongError
        return page

    def markup(self, text: str, *arguments: Any, **options: Any) -> str:
        marked = str(super().markup(text, *arguments, **options))
        self._marked_up += len(marked)
        if self._marked_up > self._maximum_bytes:
            raise TooLongError
        return marked

    def filelink(self, url: str, path: str) -> str:
        return f'<a href="file:{self._portable(url)}">{self._portable(path)}</a>'


class TooLongError(Exception):
    """The page would be longer than is wanted."""


def _is_constant(value: Any, depth: int = 3) -> bool:
    if type(value) in (tuple, list, set, frozenset):
        return depth > 0 and all(_is_constant(item, depth - 1) for item in value)
    if type(value) is dict:
        return depth > 0 and all(_is_constant(item, depth - 1) for pair in value.items() for item in pair)
    return type(value) in (type(None), bool, int, float, complex, str, bytes)


def _render(pages: Pages, name: str) -> dict[str, str]:
    """Read a module's entry in the spool: its page, or the reason why it has none."""
    try:
        module: object = importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - SystemExit and worse: a stranger's code ran
        return {"skipped": "import failed"}
    if not isinstance(module, types.ModuleType):
        return {"skipped": "not a module"}
    try:
        return {"html": pages.render(module, name)}
    except TooLongError:
        return {"skipped": "page too long"}
    except BaseException:  # noqa: BLE001 - pydoc calls the module's own __repr__ and __getattr__
        return {"skipped": "pydoc failed"}


def _refuse_side_effects(scratch: str) -> None:
    """Add an audit hook, which cannot be removed: no network, no processes, no writing outside `scratch`."""
    allowed = (scratch + os.sep, os.devnull + os.sep)

    def outside(path: Any) -> bool:
        if isinstance(path, int):
            return False
        return not (os.path.realpath(os.fsdecode(path)) + os.sep).startswith(allowed)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING and outside(path):
                raise PermissionError(f"writing {path} is refused while documentation is rendered")
        elif event in CHANGES_FILES:
            if any(isinstance(path, (str, bytes, os.PathLike)) and outside(path) for path in arguments[:2]):
                raise PermissionError(f"{event} is refused while documentation is rendered")
        elif event in REFUSED:
            raise PermissionError(f"{event} is refused while documentation is rendered")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main(sys.argv[1:])
