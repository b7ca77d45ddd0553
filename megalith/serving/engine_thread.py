"""The engine in a thread of its own, and the way between it and the event loop.

Requests go over a queue, and what each step has made comes back in one call on the event loop: torch never waits for a
client, and no client waits for torch. A step that fails ends the requests that the engine holds, in words, and the
thread goes on.
"""

import asyncio
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from megalith.console import note
from megalith.errors import MegalithError
from megalith.inference import Engine, Sampling, TokenEvent
from megalith.inference import Sequence as EngineSequence
from megalith.serving.choices import Top
from megalith.serving.errors import ApiError, engine_ended, stopping

PromptLogprobs: TypeAlias = Sequence[tuple[float, Top]]
Update: TypeAlias = "tuple[TokenEvent, PromptLogprobs | None] | ApiError"
"""A token, the first one with the log-probabilities of the prompt's; or how the sequence has failed."""


@dataclass(eq=False)
class Work:
    """One sequence for the engine."""

    prompt: Sequence[int]
    sampling: Sampling
    prompt_logprobs: bool
    receive: Callable[[Update], None]
    """Called on the event loop."""
    sequence: EngineSequence | None = field(default=None, repr=False)
    cancelled: bool = False


@dataclass(frozen=True)
class Load:
    """The engine's work."""

    waiting: int
    """Sequences that wait for their cache."""
    running: int
    """Sequences in the batch."""
    kv_bytes_used: int
    kv_bytes_limit: int


class EngineThread:
    """Runs an engine; `submit` and `cancel` are for the event loop that it was started on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._works: dict[int, Work] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.load = self._measure()
        """As it was after the last step."""
        self.alive = True
        """Whether it can go on."""

    def start(self) -> None:
        """Begin, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End after the step at hand; what is unfinished is told that the server stops."""
        if self._thread.is_alive():
            self._orders.put(None)
            self._thread.join()

    def submit(self, work: Work) -> None:
        """Hand a sequence to the engine."""
        self._orders.put(lambda: self._submit(work))

    def cancel(self, work: Work) -> None:
        """Free a sequence's cache after the step at hand; nothing more of it is received."""
        work.cancelled = True
        self._orders.put(lambda: self._drop(work))

    def _run(self) -> None:
        told = engine_ended()
        try:
            while self._take_orders():
                self._step()
            told = stopping()
        finally:
            self.alive = False
            self._post([(work, told) for work in self._works.values()])

    def _step(self) -> None:
        try:
            events = self._engine.step() if self._works else []
        except Exception as error:  # noqa: BLE001 - whatever a step raises, the server stays up
            self._fail(error)
            return
        updates: list[tuple[Work, Update]] = []
        for event in events:
            work = self._works.get(id(event.sequence))
            if work is None:
                continue
            known = event.sequence.prompt_logprobs if work.prompt_logprobs else None
            work.prompt_logprobs = False  # they are told once
            updates.append((work, (event, known)))
            if event.finish is not None:
                del self._works[id(event.sequence)]
        self.load = self._measure()
        self._post(updates)

    def _take_orders(self) -> bool:
        """Follow all orders that are there, after waiting for one where the engine has nothing to do."""
        try:
            while (order := self._orders.get(block=not self._works)) is not None:
                order()
                self.load = self._measure()
        except queue.Empty:
            return True
        return False

    def _submit(self, work: Work) -> None:
        if work.cancelled:
            return
        try:
            work.sequence = self._engine.submit(work.prompt, work.sampling, prompt_logprobs=work.prompt_logprobs)
        except Exception as error:  # noqa: BLE001 - a refused request ends no server
            self._post([(work, _told(error, refused=True))])
        else:
            self._works[id(work.sequence)] = work

    def _drop(self, work: Work) -> None:
        if work.sequence is not None and self._works.pop(id(work.sequence), None) is not None:
            self._engine.cancel(work.sequence)

    def _fail(self, error: Exception) -> None:
        told = _told(error)
        works = list(self._works.values())
        for work in works:
            if work.sequence is not None:
                self._engine.cancel(work.sequence)
        self._works.clear()
        self.load = self._measure()
        self._post([(work, told) for work in works])

    def _measure(self) -> Load:
        engine = self._engine
        return Load(engine.waiting, engine.running, engine.kv_bytes_used, engine.kv_bytes_limit)

    def _post(self, updates: list[tuple[Work, Update]]) -> None:
        if updates and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_deliver, updates)


def _deliver(updates: list[tuple[Work, Update]]) -> None:
    for work, update in updates:
        if not work.cancelled:
            work.receive(update)


def _told(error: Exception, *, refused: bool = False) -> ApiError:
    """The error for the client; one that is not meant for people is shown on the server's terminal alone."""
    if isinstance(error, MegalithError):
        return ApiError(400 if refused else 500, str(error), code="refused" if refused else "engine_failed")
    note("megalith serve: a step of the engine has failed\n" + "".join(traceback.format_exception(error)))
    return ApiError(500, f"The engine has failed ({type(error).__name__}).", code="engine_failed")
