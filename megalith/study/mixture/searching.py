"""`megalith blend search`: proxy runs of drawn mixtures, a regression on their losses, the best weights, a check.

Corpus and tokens are made once. The rows of `MIXTURES.csv` go on wherever they stand; `blend.json` is what was found,
sealed, and `blend.html` its page.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts import MANIFEST, Workspace, check_seal, read_manifest, sealed
from megalith.errors import InputError, RecipeError, UnsupportedError
from megalith.input_files import read_json
from megalith.locking import lock
from megalith.recipe import Recipe
from megalith.study.cells import CELLS, RECIPE, Row, run_cells, write_recipe
from megalith.study.mixture.design import MixtureCell, MixtureDesign, MixtureSearch, design_mixtures, proxy_recipe
from megalith.study.mixture.held_out import PROXY_TOKENS, proxy_tokens
from megalith.study.mixture.ledger import collect
from megalith.study.mixture.outcome import arms_of, check, pasteable, recipe_weights, regress
from megalith.study.mixture.weights import UNIT, Space, space_of
from megalith.study.running import tokenized
from megalith.study.slurm import write_tasks

FACTS = "blend.json"


def search(
    recipe: Recipe,
    directory: Path,
    asked: MixtureSearch,
    *,
    jobs: int | None = None,
    hours: float | None = None,
    only_smallest: bool = False,
) -> dict[str, Any]:
    """Run what has no row yet in `directory`, and return what came of it; the keys are those of `--json`.

    `jobs` are the runs at once (default: one a core, at most four); after `hours` none is begun that would not end in
    time; `only_smallest` makes one run alone. Raises MegalithError where a run fails, with the end of what it said.
    """
    deadline = None if hours is None else time.monotonic() + 3600 * hours
    plan, held_out = prepare(recipe, directory, asked)
    run = partial(
        _run, directory, jobs=jobs, deadline=deadline, of=len(plan.cells) + asked.seeds * _arms(recipe, plan)
    )  # fmt: skip
    with lock(directory / CELLS):
        rows = run(plan.cells, plan.cells[:1] if only_smallest else plan.cells)
        missing = _missing(plan.cells, rows)
        found: dict[str, Any] = _told(recipe, plan, held_out)
        if not missing:
            found |= regress(plan, rows)
            if found["found"] is not None:
                cells = plan.check_cells(arms_of(recipe, plan, np.array(found["found"]["weights"])))
                rows = run([*plan.cells, *cells], [] if only_smallest else cells)
                missing = _missing(cells, rows)
                found["check"] = None if missing else check(plan, cells, rows)
        return _finish(directory, found | {"rows": rows, "missing": missing})


def prepare(recipe: Recipe, directory: Path, asked: MixtureSearch) -> tuple[MixtureDesign, dict[str, int]]:
    """Tokens, held-out documents and the recipe of the runs; the design, and held-out tokens by name."""
    check_recipe(recipe)
    facts = tokenized(proxy_recipe(recipe), directory, ())
    plan = _design(recipe, _in_order(recipe, {name: one["tokens"] for name, one in facts["datasets"].items()}), asked)
    made = proxy_tokens(directory, plan.space.names, asked.held_out_tokens, plan.run.model.sequence_length, recipe.seed)
    write_recipe(proxy_recipe(recipe, plan.run.model), directory)
    return plan, dict(made.facts["held_out"])


def design_alone(recipe: Recipe, directory: Path, asked: MixtureSearch) -> MixtureDesign:
    """The design from the shards in `directory`, or else the tokens that the recipe states; nothing is made.

    Raises RecipeError where neither says how large the data sets are.
    """
    check_recipe(recipe)
    place = directory / "tokenize"
    known: dict[str, int] = {}
    if (place / MANIFEST).is_file():
        known = {name: one["tokens"] for name, one in read_manifest(place).facts.get("datasets", {}).items()}
    if set(known) != set(recipe.curate.datasets):
        known = {name: one.tokens for name, one in recipe.blend.datasets.items() if one.tokens is not None}
    if set(known) != set(recipe.curate.datasets):
        raise RecipeError(
            "how many tokens each data set has is not known yet, and natural weights and the cap follow from it.",
            where=str(place),
            mend="Use the same command with --smallest, which makes the tokens first, or state "
            "blend.datasets.NAME.tokens.",
        )
    return _design(recipe, _in_order(recipe, known), asked)


def write_array(recipe: Recipe, directory: Path, asked: MixtureSearch) -> tuple[MixtureDesign, Path]:
    """The script of a Slurm array for the runs that have no row yet; once all proxies have one, for the check runs."""
    plan, _ = prepare(recipe, directory, asked)
    rows = collect(directory, plan.cells)
    cells: Sequence[MixtureCell] = [cell for cell in plan.cells if cell.name in _missing(plan.cells, rows)]
    if not cells:
        found = regress(plan, rows)["found"]
        every = plan.check_cells(arms_of(recipe, plan, np.array(found["weights"]))) if found else []
        missing = _missing(every, collect(directory, [*plan.cells, *every]))
        cells = [cell for cell in every if cell.name in missing]
    return plan, write_tasks(directory, cells, command, "blend search", tokens=PROXY_TOKENS)


def command(cell: MixtureCell, directory: Path) -> list[str]:
    """The command of a run, from any working directory."""
    place = directory.absolute()
    return [
        sys.executable, "-m", "megalith.study.mixture.proxy", str(place / CELLS / cell.name), cell.digest,
        str(place / RECIPE), *cell.overrides,
    ]  # fmt: skip


def check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError or UnsupportedError for a recipe whose data sets cannot be weighed."""
    if recipe.tokens.sources:
        raise UnsupportedError(
            "a search weighs data sets that are curated, since it needs held-out documents of each.",
            where="tokens.from",
            mend="Name the data sets in curate.datasets.",
        )
    if recipe.model.family != "gpt":
        raise UnsupportedError(f"a {recipe.model.family} reads its corpus as one.", where="model.family")
    if len(recipe.curate.datasets) < 2:
        raise RecipeError(
            f"a search weighs two data sets or more, and the recipe has {len(recipe.curate.datasets)}.",
            where="curate.datasets",
            mend="Name the data sets there, each with its paths.",
        )


def read_search(path: Path) -> dict[str, Any]:
    """The content of a `blend.json`. Raises InputError where the file was changed since."""
    told = read_json(path)
    if not isinstance(told, dict) or "datasets" not in told:
        raise InputError("this does not tell of a search for weights.", where=str(path))
    check_seal(told, path, mend="Use `megalith blend search` again.")
    return told


def _design(recipe: Recipe, sizes: Mapping[str, int], asked: MixtureSearch) -> MixtureDesign:
    target_tokens = asked.target_tokens or recipe.train.tokens
    if target_tokens is None:
        raise RecipeError(
            "how many tokens the weights are for is not known, and the cap on repetition follows from it.",
            where="train.tokens",
            mend="Set it, or use --target-tokens.",
        )
    return design_mixtures(recipe, space_of(sizes, target_tokens, asked.most_epochs), asked)


def _in_order(recipe: Recipe, sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: sizes[name] for name in recipe.curate.datasets}


def _run(
    directory: Path,
    known: Sequence[MixtureCell],
    cells: Sequence[MixtureCell],
    *,
    jobs: int | None,
    deadline: float | None,
    of: int,
) -> list[Row]:
    """Run those of the `cells` that have no row; the rows of all that are `known`."""
    return run_cells(
        directory, cells, command, partial(collect, directory, known), _said,
        of=of, jobs=jobs, deadline=deadline, tokens=PROXY_TOKENS,
    )  # fmt: skip


def _said(row: Row) -> str:
    losses = [float(value) for key, value in row.items() if key.startswith("loss:")]
    return f"mean loss {np.mean(losses):.4f}"


def _missing(cells: Sequence[MixtureCell], rows: Sequence[Row]) -> list[str]:
    done = {row["digest"] for row in rows}
    return [cell.name for cell in cells if cell.digest not in done]


def _arms(recipe: Recipe, plan: MixtureDesign) -> int:
    return len(arms_of(recipe, plan, np.zeros(len(plan.space.names))))


def _told(recipe: Recipe, plan: MixtureDesign, held_out: Mapping[str, int]) -> dict[str, Any]:
    space: Space = plan.space
    sizes = dict(zip(space.names, space.sizes, strict=True))
    own = recipe_weights(recipe, sizes)
    datasets = [
        {
            "name": name,
            "tokens": sizes[name],
            "held_out_tokens": held_out[name],
            "natural": float(space.natural[place]),
            "recipe": None if own is None else float(own[place]),
            "cap": space.caps[place] * UNIT,
            "target": float(plan.target[place]),
        }
        for place, name in enumerate(space.names)
    ]
    return {
        "recipe": recipe.name,
        "design": plan.facts(),
        "datasets": datasets,
        "regression": None,
        "found": None,
        "refused": None,
        "check": None,
        "recommended": None,
    }


def _finish(directory: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict; write `blend.json` and, once a regression stands, the page."""
    found["run_seconds"] = sum(float(row["seconds"]) for row in found["rows"])
    found["warnings"] = _warnings(found)
    worse = any(one["verdict"] == "worse" for one in (found["check"] or {}).get("differences", ()))
    if found["check"] is not None and not worse:
        found["recommended"] = pasteable([one["name"] for one in found["datasets"]], found["found"]["weights"])
    written = sealed(found)
    with Workspace(directory).file(FACTS) as made:
        made.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    if found["regression"] is not None:
        from megalith.report import write_mixtures

        return {**written, "page": str(write_mixtures(directory, found))}
    return written


def _warnings(found: Mapping[str, Any]) -> list[str]:
    said = []
    design = found["design"]
    if design["clipped"]:
        said.append(f"{design['clipped']} of {design['mixtures']} mixtures met the cap on repetition only when clipped")
    if found["refused"]:
        said.append(found["refused"])
    for one in (found["check"] or {}).get("differences", ()):
        low, high = one["interval"]
        by = f"{one['difference']:+.4f} nats, 95 % {low:+.4f} … {high:+.4f}"
        if one["verdict"] == "worse":
            said.append(f"the check finds these weights worse than the {one['against']} ones ({by}): they are not "
                        "recommended")  # fmt: skip
        elif one["verdict"] == "not told apart":
            said.append(f"the check cannot tell these weights from the {one['against']} ones ({by})")
    return said
