"""The cells of a study as processes, several at once, each begun only where no row of it stands.

What has finished stands: called again, the same study goes on with the cells that have no row yet. A cell trains in the
launcher's form (RANK and so on), in which nothing is planned or measured, since a design leaves nothing open.
"""

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import yaml

from megalith.console import human_seconds, note
from megalith.errors import MegalithError
from megalith.machine import usable_cores
from megalith.recipe import Recipe

CELLS, RECIPE = "cells", "recipe.yaml"
MOST_AT_ONCE = 4  # unless more are asked for
_POLL_SECONDS = 0.2
_FAREWELL_SECONDS = 120  # for a training run to save its state after SIGTERM
_TAIL_BYTES = 2000
Row = dict[str, str]


class Runnable(Protocol):
    """A cell, as far as running it goes."""

    @property
    def name(self) -> str: ...
    @property
    def flops(self) -> float: ...
    @property
    def digest(self) -> str:
        """All that makes this run another one."""


C = TypeVar("C", bound=Runnable)
Command = Callable[[C, Path], list[str]]
"""The command of a cell of the study in that directory, from any working directory."""


@dataclass
class _Running(Generic[C]):
    cell: C
    process: subprocess.Popen[bytes]
    begun: float = field(default_factory=time.monotonic)


def write_recipe(recipe: Recipe, directory: Path) -> None:
    """Write the recipe that all cells share."""
    (directory / CELLS).mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False)
    (directory / RECIPE).write_text(text, encoding="utf-8")


def prepare_cell(cell: Runnable, directory: Path, tokens: str = "tokenize") -> Path:
    """The cell's directory, with the study's `tokens` in it."""
    place = directory / CELLS / cell.name
    place.mkdir(parents=True, exist_ok=True)
    shards = place / "tokenize"
    if not shards.is_symlink():
        shards.symlink_to(Path("..", "..", tokens), target_is_directory=True)
    return place


def rows_of(cells: Sequence[Runnable], rows: Sequence[Row]) -> list[Row]:
    """The rows of these cells in their order; a cell without a row is left out."""
    by_digest = {row["digest"]: row for row in rows}
    return [by_digest[cell.digest] for cell in cells if cell.digest in by_digest]


def run_cells(
    directory: Path,
    cells: Sequence[C],
    command: Command[C],
    collect: Callable[[], list[Row]],
    said: Callable[[Row], str],
    *,
    of: int,
    jobs: int | None = None,
    deadline: float | None = None,
    tokens: str = "tokenize",
) -> list[Row]:
    """Run the cells that have no row yet, and return the rows afterwards.

    `collect` reads the rows of all that have finished, each with `digest`, `flops` and `seconds`; `said` are the
    figures of one for its line, and `of` the cells of the whole study. After `deadline` (time.monotonic) no cell is
    begun that would not end in time. Raises MegalithError where a cell fails, with the end of what it said.
    """
    jobs = jobs or min(MOST_AT_ONCE, usable_cores())
    rows = collect()
    done = {row["digest"] for row in rows}
    waiting = deque(cell for cell in cells if cell.digest not in done)
    failed: list[C] = []
    running: list[_Running[C]] = []
    if done:
        note(f"{len(done)} of {of} cells stand already")
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not failed:
                if deadline is not None and not _in_time(waiting[0], rows, deadline):
                    note(f"{len(waiting)} cells would not end within --hours: the same command goes on with them")
                    waiting.clear()
                    break
                cell = waiting.popleft()
                running.append(_start(cell, prepare_cell(cell, directory, tokens), command(cell, directory), jobs))
            time.sleep(_POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if one.process.returncode:
                    failed.append(one.cell)
                    waiting.clear()
                    continue
                rows = collect()
                _tell(one, rows, said, of)
    finally:
        _end(running)
    if failed:
        raise MegalithError(
            f"cell {failed[0].name} failed: {_tail(directory / CELLS / failed[0].name / 'log.txt')}",
            where=str(directory / CELLS / failed[0].name),
            mend="Use the same command once the reason is mended: it goes on from here.",
        )
    return rows


def _start(cell: C, place: Path, words: Sequence[str], jobs: int) -> _Running[C]:
    threads = max(1, usable_cores() // jobs)
    environment = {
        **os.environ, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(jobs),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    return _Running(cell, process)


def _in_time(cell: Runnable, rows: Sequence[Mapping[str, str]], deadline: float) -> bool:
    """Whether a cell is likely to end by then, at the rate of the slowest finished one; the first always is begun."""
    rates = [float(row["flops"]) / float(row["seconds"]) for row in rows if float(row["seconds"]) > 0]
    return not rates or time.monotonic() + cell.flops / min(rates) <= deadline


def _tell(one: _Running[C], rows: Sequence[Row], said: Callable[[Row], str], of: int) -> None:
    row = next((row for row in rows if row["digest"] == one.cell.digest), None)
    figures = f"{said(row)}, " if row else ""
    took = human_seconds(time.monotonic() - one.begun)
    note(f"{len(rows):>3}/{of}  {one.cell.name:<22} {figures}{one.cell.flops:.3g} FLOPs in {took}")


def _end(running: Sequence[_Running[C]]) -> None:
    """Let the runs under way save their state, and end them."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + _FAREWELL_SECONDS
    for one in running:
        try:
            one.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            one.process.kill()
            one.process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _tail(log: Path) -> str:
    said = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() if log.is_file() else ""
    return said.splitlines()[-1] if said else "it said nothing"
