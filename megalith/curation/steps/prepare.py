"""From documents as they were read to clean text, each within a limit of processor time.

The work is done in a process beside the one that asks. There a document that takes too long is given up, from within
where Python runs and by the kernel (RLIMIT_CPU) where a library does not return. A process that was ended so, or by a
crash, is replaced; the document it was at is refused with the reason, and the others go on. Where the process is killed
from outside, the document is tried again, since that says nothing about it.
"""

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from megalith.curation.steps.extract import Extractor
from megalith.errors import ResourceError, UnsupportedError
from megalith.memory import oom_kills

NO_TEXT, PAGE_TOO_LONG, TOOK_TOO_LONG, FAILED, CRASHED = (
    "no text",
    "page too long",
    "took too long",
    "failed",
    "crashed the extractor",
)
NO_LINE = "no line of sentences"
REASONS = (NO_TEXT, PAGE_TOO_LONG, TOOK_TOO_LONG, FAILED, CRASHED, NO_LINE)
"""Why a document has no text where its URL is not why."""
MAXIMUM_HTML_BYTES = 10_000_000
"""A longer page has no text for us."""
DOCUMENTS_PER_PROCESS = 5000
"""trafilatura's caches grow: a process is renewed now and then."""
GRACE_SECONDS = 5
"""Processor time after its limit until the kernel ends the process."""
PATIENCE = 10.0
"""A document may take this many times its seconds by the clock, since the machine may be busy."""
WAIT_SECONDS = 60.0
"""And so much more."""
OUT_OF_MEMORY = 77
"""Exit code."""
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
_PROGRAM = """
import sys, types
package = types.ModuleType("megalith.curation")
package.__path__ = [sys.argv[1]]
sys.modules["megalith.curation"] = package
from megalith.curation.steps.prepare_process import serve
serve()
"""
"""Without what the package itself imports: Daft and Numba take a second and a half to load, and 200 MB."""


class Raw(NamedTuple):
    """A document as it was read: the HTML of a page with the server's charset, or ready text."""

    content: bytes | str
    charset: str | None = None


class Prepared(NamedTuple):
    """A document's text, and why it has none."""

    text: str
    reason: str | None = None


class Preparer:
    """Extracts and cleans documents in a process that is started when first wanted. `seconds` are for each document;
    the rest is told to `clean`."""

    def __init__(
        self, extractor: Extractor, seconds: float, *, straight_quotes: bool = False, plain_letters: bool = False
    ) -> None:
        self.extractor = extractor
        self.seconds = seconds
        self.rewrite = (straight_quotes, plain_letters)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None
        self._done = 0
        self._oom_kills = oom_kills()

    def __call__(self, documents: Sequence[Raw]) -> list[Prepared]:
        """The text of each document. Raises UnsupportedError where the extractor is not installed, ResourceError where
        the process is killed from outside again and again, or memory runs out."""
        answers: list[Prepared] = []
        killed = 0
        while len(answers) < len(documents):
            before = len(answers)
            try:
                self._ask(documents[before:], answers)
            except (EOFError, OSError):
                reason = self._end()
                if reason is None:
                    killed = killed + 1 if len(answers) == before else 1
                    if killed > 2:
                        raise self._error() from None
                else:
                    answers.append(Prepared("", reason))
        return answers

    def stop(self) -> None:
        """End the process; the next call starts another."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._channel = None
        self._done = 0

    def _ask(self, documents: Sequence[Raw], answers: list[Prepared]) -> None:
        if self._done >= DOCUMENTS_PER_PROCESS:
            self.stop()
        channel = self._channel or self._start()
        channel.send_bytes(pickle.dumps(documents, protocol=5))
        for _ in documents:
            if not channel.poll(PATIENCE * self.seconds + WAIT_SECONDS):
                assert self._process is not None
                self._process.send_signal(signal.SIGXCPU)  # it waits for something that does not come
            answers.append(Prepared(*json.loads(channel.recv_bytes())))  # JSON: a page may have broken the process
            self._done += 1

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            rewrite = map(int, self.rewrite)
            told = [Path(__file__).parents[1], theirs.fileno(), os.getpid(), self.extractor, self.seconds, *rewrite]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, told)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # libraries have much to say
                pass_fds=[theirs.fileno()],
            )
        self._channel = Connection(ours.detach())
        missing = self._channel.recv_bytes().decode()
        if missing:
            self.stop()
            raise UnsupportedError(
                f"this extractor wants the package {missing}, which is not installed.",
                where="curate.extractor",
                mend=f"Run `pip install {missing}`, or set curate.extractor=resiliparse.",
            )
        return self._channel

    def _end(self) -> str | None:
        """Why the process has ended, as the reason of the document it was at; None where that tells nothing of it."""
        assert self._process is not None
        if self._channel is not None:
            self._channel.close()
        self._channel = None
        self._done = 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(WAIT_SECONDS)
        self._process.kill()
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return TOOK_TOO_LONG
        return CRASHED if -code in _CRASHES else None

    def _error(self) -> ResourceError:
        code = self._process.returncode if self._process is not None else 0
        if code == OUT_OF_MEMORY:
            what, mend = "a process that extracts and cleans has no memory left.", "Use fewer cores (taskset)"
        elif oom_kills() > self._oom_kills:
            what = "memory ran out, and the kernel killed a process that extracts and cleans."
            mend = "Use fewer cores (taskset)"
        else:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            what, mend = f"a process that extracts and cleans ended again and again with {how}.", "See what ends it"
        return ResourceError(what, where="curate", mend=f"{mend}; then run the same command again.")
