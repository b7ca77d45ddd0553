"""Hangs: when a rank does not come to a collective in time, the run ends with its name and that of the collective.

A thread in each rank looks on. Where its rank has waited for most of the timeout, it raises an alarm: a file in the
workspace, which all ranks see. Each then leaves a record of what it has entered and what it waits for, and all who have
read the same records come to the same verdict. A rank that is stopped, or whose machine is gone, leaves none. Nothing
is written while all goes well, and torch's own timeouts follow a little later, should the thread itself be stuck.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pydantic
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict

from megalith.artifacts import whole
from megalith.errors import MegalithError, ResourceError
from megalith.parallel import Mesh
from megalith.parallel.flight import Collective, awaited_stage, entered, place_of
from megalith.training.run_state import Run
from megalith.training.task import HANG, TrainTask, write_error

ALARM_AT = 0.7  # of the timeout: the rest is for seeing it, and for the others' answers
ANSWERS = 0.2
LOOKS_AFTER = 0.07  # in one phase: shorter ones cost nothing
LONGEST_ANSWER_SECONDS = 10.0
LOOKS = 20  # within a timeout
LONGEST_LOOK_SECONDS = 1.0
GAVE_UP = 1
_ALARM = "alarm"
GiveUp = Callable[[MegalithError], NoReturn]


class Record(BaseModel):
    """The answer of one rank to an alarm."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int
    step: int
    phase: str
    entered: tuple[Collective, ...]
    """The last of each group."""
    waits: Collective | None
    at: str
    """Where its Python is."""


class Watch:
    """The thread of one rank."""

    def __init__(self, task: TrainTask, ranks: Mesh, timeout: float, give_up: GiveUp | None = None) -> None:
        self.timeout = timeout
        """Seconds."""
        self._besides: dist.ProcessGroup | None = None
        self._ranks = ranks
        self._place: Callable[[], tuple[int, str]] = lambda: (1, "start")
        self._directory = task.logs / HANG
        self._give_up = give_up or (lambda error: leave(task, ranks, error))
        self._main = threading.get_ident()
        self._ended = threading.Event()
        self._seen: tuple[int, str] = (0, "")
        self._since = time.time()
        self._awaited: Collective | None = None
        """The message of another stage, since it was first seen to be waited for."""
        if ranks.count > 1:
            threading.Thread(target=self._look, name="hangs", daemon=True).start()

    def follow(self, run: Run) -> None:
        """Look at a run that has begun: its mesh, its step and its phase; not at the group of its checkpoints."""
        self._ranks, self._besides = run.ranks, run.saver.group
        self._place = lambda: (run.progress.step + 1, run.clock.phase)

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.wait(min(LONGEST_LOOK_SECONDS, self.timeout / LOOKS)):
            place = self._place()
            if place != self._seen:
                self._seen, self._since, self._awaited = place, time.time(), None
            if (self._directory / _ALARM).exists():
                break
            if time.time() - self._since < LOOKS_AFTER * self.timeout:
                continue
            waits = self._record().waits
            if waits is not None and time.time() - waits.since > ALARM_AT * self.timeout:
                self._write(_ALARM, "")
                break
        if not self._ended.is_set():
            self._answer()

    def _record(self) -> Record:
        last, waits = entered(self._ranks, besides=self._besides)
        if self._ranks.size("pipeline") > 1:
            own, before = awaited_stage(self._ranks, self._main, time.time()), self._awaited
            self._awaited = before if own and before and own.kind == before.kind else own
            waits = self._awaited or waits
        step, phase = self._place()
        at = place_of(self._main)
        return Record(rank=self._ranks.rank, step=step, phase=phase, entered=tuple(last), waits=waits, at=at)

    def _answer(self) -> None:
        """Leave a record, and give the run up when all have answered or none other will."""
        self._write(_name(self._ranks.rank), self._record().model_dump_json())
        end = time.monotonic() + min(LONGEST_ANSWER_SECONDS, ANSWERS * self.timeout)
        records: dict[int, Record] = {}
        while time.monotonic() < end and len(records) < self._ranks.count:
            time.sleep(min(LONGEST_LOOK_SECONDS, self.timeout / LOOKS) / 2)
            records = _records(self._directory)
        self._give_up(verdict(records, self._ranks.count, self.timeout))

    def _write(self, name: str, content: str) -> None:
        try:
            self._directory.mkdir(exist_ok=True)
            with whole(self._directory / name) as temporary:
                temporary.write_text(content)
        except OSError:
            pass  # a full disk: the others' records will do


def leave(task: TrainTask, ranks: Mesh, error: MegalithError) -> NoReturn:
    """Leave the error for the process that started this one, and end without a word: the main thread cannot."""
    try:
        write_error(task, ranks.rank, error)
    finally:
        os._exit(GAVE_UP)


def silent(task: TrainTask, count: int) -> list[int]:
    """The ranks that gave no answer in a hang; none where nothing has hung."""
    directory = task.logs / HANG
    if not (directory / _ALARM).exists():
        return []
    answered = _records(directory)
    return [rank for rank in range(count) if rank not in answered] if answered else []


def verdict(records: Mapping[int, Record], count: int, timeout: float) -> MegalithError:
    """Which rank did not come to which collective, by the records of those that answered."""
    waiting = {rank: record.waits for rank, record in records.items() if record.waits is not None}
    missing = [rank for rank in range(count) if rank not in records] or [r for r in records if r not in waiting]
    if not missing:
        return _mismatch(records, waiting, timeout)
    others = [(each.since, rank) for rank, each in waiting.items() if set(each.ranks) & set(missing)]
    first = min(others or [(each.since, rank) for rank, each in waiting.items()], default=None)
    what = where = ""
    named = missing
    if first is not None:
        awaited, record = waiting[first[1]], records[first[1]]
        named = [rank for rank in missing if rank in awaited.ranks] or missing
        what, where = f"has not come to the {awaited}", f" in the phase {record.phase} of step {record.step:,}"
    who = f"rank {' and '.join(map(str, named))}"
    if named[0] in records:
        own = records[named[0]]
        return ResourceError(
            f"{who} {what}{where} within {timeout:g} s: it is in {own.at}, in the phase {own.phase} of step "
            f"{own.step:,}.",
            where="train.timeout_seconds",
            mend="If it would have come, set more seconds. The same command goes on from the last checkpoint.",
        )
    return ResourceError(
        f"{who} does not answer and {what}{where} within {timeout:g} s.",
        mend="Look after its process and its machine; the same command goes on from the last checkpoint.",
    )


def _mismatch(records: Mapping[int, Record], waiting: Mapping[int, Collective], timeout: float) -> MegalithError:
    """All wait, each for another: they have not entered the same collectives in the same order."""
    behind = [
        (rank, other)
        for rank, awaited in waiting.items()
        for other in awaited.ranks
        if other in waiting and not _is_in(awaited, waiting[other], records[other])
    ]
    one, other = behind[0] if behind else (min(waiting), max(waiting))
    step = records[other].step
    return ResourceError(
        f"rank {other} has not come to the {waiting[one]} in which rank {one} waits, at step {step:,}, within "
        f"{timeout:g} s: it waits in another, the {waiting[other]}.",
        mend="Ranks that enter other collectives are a fault of the program, or of a machine that computes wrongly: "
        "please report it. The same command goes on from the last checkpoint.",
    )


def _is_in(awaited: Collective, own: Collective, record: Record) -> bool:
    """Whether a rank has entered a collective, or is the one that it waits for by itself."""
    if awaited.number is None:
        return own == awaited
    same = [each for each in record.entered if (each.axis, each.ranks) == (awaited.axis, awaited.ranks)]
    return any((each.number or 0) > awaited.number or _alike(each, awaited) for each in same)


def _alike(one: Collective, other: Collective) -> bool:
    return (one.number, one.kind) == (other.number, other.kind)


def _name(rank: int) -> str:
    return f"rank-{rank:05d}.json"


def _records(directory: Path) -> dict[int, Record]:
    found = {}
    for path in directory.glob("rank-*.json"):
        try:
            record = Record.model_validate_json(path.read_text())
        except (OSError, pydantic.ValidationError):
            continue
        found[record.rank] = record
    return found
