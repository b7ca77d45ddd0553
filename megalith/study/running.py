"""`megalith scaling study`: tokens once, then every cell as a process of `megalith train`, several at once.

What has finished stands: the same command goes on with the cells that have no row yet. A cell trains in the launcher's
form (RANK and so on), in which nothing is planned or measured, since the design leaves nothing open.
"""

import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from megalith import expedition
from megalith.artifacts import open_artifact
from megalith.console import human_seconds, note
from megalith.errors import MegalithError, RecipeError
from megalith.locking import lock
from megalith.machine import usable_cores
from megalith.recipe import Recipe
from megalith.stages import stages_of
from megalith.study.design import Cell, Design
from megalith.study.ledger import CELLS, Row, collect
from megalith.study.results import results

RECIPE = "recipe.yaml"
_POLL_SECONDS = 0.2
_FAREWELL_SECONDS = 120  # for a training run to save its state after SIGTERM
_TAIL_BYTES = 2000


@dataclass
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    begun: float = field(default_factory=time.monotonic)


def study(
    recipe: Recipe,
    directory: Path,
    plan: Design,
    sources: Sequence[Path] = (),
    *,
    jobs: int | None = None,
    hours: float | None = None,
    only_smallest: bool = False,
) -> dict[str, Any]:
    """Run the design's cells in `directory` and return what came of them; the keys are those of `--json`.

    `jobs` are the cells at once (default: one a core, at most four); after `hours` no cell is begun that would not end
    in time. Raises MegalithError where a cell fails, with the end of what it said.
    """
    prepare(recipe, directory, plan, sources)
    with lock(directory / CELLS):
        cells = plan.cells[:1] if only_smallest else plan.cells
        rows = _run(directory, plan, cells, jobs or min(4, usable_cores()), hours)
        return results(directory, plan, rows)


def prepare(recipe: Recipe, directory: Path, plan: Design, sources: Sequence[Path]) -> None:
    """The tokens of all cells and the recipe that they share. Raises RecipeError where a run would repeat tokens."""
    (directory / CELLS).mkdir(parents=True, exist_ok=True)
    tokens = _tokens(recipe, directory, sources)
    if plan.most_tokens > tokens:
        raise RecipeError(
            f"the largest run of the study takes {plan.most_tokens:,} tokens, and the corpus has {tokens:,}: some "
            "would repeat.",
            where="--budgets",
            mend="Use more text or smaller budgets.",
        )
    text = yaml.safe_dump(recipe.model_dump(mode="json", by_alias=True), sort_keys=False)
    (directory / RECIPE).write_text(text, encoding="utf-8")


def command(cell: Cell, directory: Path) -> list[str]:
    """The command of a cell, from any working directory."""
    place = directory.absolute()
    return [
        sys.executable, "-m", "megalith", "train", str(place / RECIPE), *cell.overrides, "--output",
        str(place / CELLS / cell.name),
    ]  # fmt: skip


def prepare_cell(cell: Cell, directory: Path) -> Path:
    """The cell's directory, with the study's tokens in it."""
    place = directory / CELLS / cell.name
    place.mkdir(parents=True, exist_ok=True)
    shards = place / "tokenize"
    if not shards.is_symlink():
        shards.symlink_to(Path("..", "..", "tokenize"), target_is_directory=True)
    return place


def _tokens(recipe: Recipe, directory: Path, sources: Sequence[Path]) -> int:
    """Training tokens of the study's corpus, which is made where it is missing."""
    for stage in stages_of(recipe, list(sources) or [Path(one) for one in recipe.curate.paths]):
        if stage in ("crawl", "curate", "tokenize"):
            expedition.run_stage(stage, recipe, directory, sources)
    return int(open_artifact(directory / "tokenize", "tokenize", check=False).facts["tokens"]["train"])


def _run(directory: Path, plan: Design, cells: Sequence[Cell], jobs: int, hours: float | None) -> list[Row]:
    """Run the cells that have no row yet; the rows of the design afterwards."""
    rows = collect(directory, plan)
    done = {row["digest"] for row in rows}
    waiting = deque(cell for cell in cells if cell.digest not in done)
    begun = time.monotonic()
    failed: list[Cell] = []
    running: list[_Running] = []
    if done:
        note(f"{len(done)} of {len(plan.cells)} cells stand already")
    try:
        while waiting or running:
            while waiting and len(running) < jobs and not failed:
                if hours is not None and not _in_time(waiting[0], rows, begun + 3600 * hours):
                    note(f"{len(waiting)} cells would not end within {hours:g} h: the same command goes on with them")
                    waiting.clear()
                    break
                running.append(_start(waiting.popleft(), directory, jobs))
            time.sleep(_POLL_SECONDS)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if one.process.returncode:
                    failed.append(one.cell)
                    waiting.clear()
                    continue
                rows = collect(directory, plan)
                _tell(one, rows, plan)
    finally:
        _end(running)
    if failed:
        raise MegalithError(
            f"cell {failed[0].name} failed: {_tail(directory / CELLS / failed[0].name / 'log.txt')}",
            where=str(directory / CELLS / failed[0].name),
            mend="Use the same command once the reason is mended: it goes on from here.",
        )
    return rows


def _start(cell: Cell, directory: Path, jobs: int) -> _Running:
    place = prepare_cell(cell, directory)
    threads = max(1, usable_cores() // jobs)
    environment = {
        **os.environ, "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": str(jobs),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command(cell, directory), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    return _Running(cell, process)


def _in_time(cell: Cell, rows: Sequence[Row], deadline: float) -> bool:
    """Whether a cell is likely to end by then, at the rate of the slowest finished one; the first always is begun."""
    rates = [float(row["flops"]) / float(row["seconds"]) for row in rows if float(row["seconds"]) > 0]
    return not rates or time.monotonic() + cell.flops / min(rates) <= deadline


def _tell(one: _Running, rows: Sequence[Row], plan: Design) -> None:
    row = next((row for row in rows if row["digest"] == one.cell.digest), None)
    loss = f"validation loss {float(row['validation_loss']):.4f}, " if row else ""
    took = human_seconds(time.monotonic() - one.begun)
    note(f"{len(rows):>3}/{len(plan.cells)}  {one.cell.name:<22} {loss}{one.cell.flops:.3g} FLOPs in {took}")


def _end(running: Sequence[_Running]) -> None:
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
