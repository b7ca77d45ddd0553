"""`megalith scaling study`: tokens once, then every cell as a process of `megalith train`, several at once."""

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from megalith import expedition
from megalith.artifacts import open_artifact
from megalith.errors import RecipeError
from megalith.locking import lock
from megalith.recipe import Recipe
from megalith.stages import stages_of
from megalith.study.cells import CELLS, RECIPE, Row, run_cells, write_recipe
from megalith.study.design import Cell, Design
from megalith.study.ledger import collect
from megalith.study.results import results


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
        deadline = None if hours is None else time.monotonic() + 3600 * hours
        rows = run_cells(
            directory, cells, command, partial(collect, directory, plan), _said,
            of=len(plan.cells), jobs=jobs, deadline=deadline,
        )  # fmt: skip
        return results(directory, recipe.name, plan, rows)


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
    write_recipe(recipe, directory)


def command(cell: Cell, directory: Path) -> list[str]:
    """The command of a cell, from any working directory."""
    place = directory.absolute()
    return [
        sys.executable, "-m", "megalith", "train", str(place / RECIPE), *cell.overrides, "--output",
        str(place / CELLS / cell.name),
    ]  # fmt: skip


def tokenized(recipe: Recipe, directory: Path, sources: Sequence[Path]) -> dict[str, Any]:
    """The facts of the study's `tokenize` artifact, which is made where it is missing."""
    for stage in stages_of(recipe, list(sources) or [Path(one) for one in recipe.curate.paths]):
        if stage in ("crawl", "curate", "tokenize"):
            expedition.run_stage(stage, recipe, directory, sources)
    return dict(open_artifact(directory / "tokenize", "tokenize", check=False).facts)


def _tokens(recipe: Recipe, directory: Path, sources: Sequence[Path]) -> int:
    """Training tokens of the study's corpus."""
    return int(tokenized(recipe, directory, sources)["tokens"]["train"])


def _said(row: Row) -> str:
    return f"validation loss {float(row['validation_loss']):.4f}"
