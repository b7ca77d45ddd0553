"""A branch: a run that goes on from a checkpoint of another one, its trunk, under changed settings.

It is an artifact of its own beside the trunk, known by the trunk's run, the step and the changes. With a cooldown it is
the decay of a warmup-stable-decay schedule (2404.06395): several of them may begin from one trunk.
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from megalith.artifacts import LOGS, MANIFEST, Artifact, file_digest, flat, read_manifest, read_mark
from megalith.artifacts.checkpoints import STATE, TASK
from megalith.errors import InputError, RecipeError
from megalith.input_files import read_json
from megalith.recipe import Recipe, load_recipe
from megalith.recipe.changes import change_of
from megalith.tokens.blending import blended_windows
from megalith.training.checkpoint.files import Name, standing
from megalith.training.checkpoint.state import unseal
from megalith.training.initial_weights import check_tokenizer
from megalith.training.lr_schedule import learning_rate, warmup_tokens
from megalith.training.run_settings import settings_of
from megalith.training.task import TrainTask, Trunk

_STEP = re.compile(r"step-(\d{8,})")
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Branch:
    """A branch that may begin, or go on."""

    recipe: Recipe
    """Its own, with nothing left open."""
    trunk: Trunk
    task: TrainTask
    """The trunk's."""
    name: str
    """The name of its directory."""


def branch_at(recipe: Recipe, directory: Path, at: str, tokens: Artifact, cooldown: int | None = None) -> Branch:
    """The branch of the run in `directory` at a step, or at the checkpoint in the directory that `at` names.

    What the recipe leaves open is taken from the trunk. With `cooldown` it trains for so many tokens more, in which the
    rate falls. Raises InputError where there is no such checkpoint; RecipeError where nothing is changed, a change
    would make another run, or the step is not one that a cooldown can begin from.
    """
    workspace, step = _trunk_of(directory, at)
    task = _task_of(workspace)
    filled = _filled(recipe, task.recipe)
    inputs = _inputs_of(workspace)
    changes = _changes(task.recipe, filled)
    if inputs.get("tokens") not in (None, tokens.digest):
        changes["inputs.tokens"] = (inputs["tokens"], tokens.digest)
        _check_tokenizer(workspace, task, tokens)
    _refuse_another_run(changes, dropout=filled.model.dropout > 0)
    name = f"{workspace.name.strip('.').removesuffix('.partial')}-{step}-{_mark(changes, cooldown)}"
    checkpoint = workspace / "checkpoints" / str(Name(step))
    found = _begun(directory / name, directory / f".{name}.partial") or _found(checkpoint, task, changes)
    whole = _with_schedule(filled, task.recipe, found, cooldown)
    changes |= _changes(task.recipe, whole)
    if not changes:
        raise RecipeError(
            "nothing is changed, and a branch would be the run itself.",
            where="--branch",
            mend="Set a value, such as train.tokens=…, or pass --cooldown TOKENS; without --branch the run goes on.",
        )
    return Branch(whole, found.model_copy(update={"changes": changes}), task, name)


def _trunk_of(directory: Path, at: str) -> tuple[Path, int]:
    """The workspace of a run, finished or not, and the step in it."""
    if not at.isdecimal():
        named = _STEP.fullmatch(Path(at).name)
        if named is None or not (Path(at).absolute().parent.parent / LOGS / TASK).is_file():
            raise InputError(
                "this is neither a step nor a checkpoint of a run.",
                where=f"--branch {at}",
                mend="Use a number, or a path such as runs/NAME/train/checkpoints/step-00001000.",
            )
        return Path(at).absolute().parent.parent, int(named[1])
    homes = [home for home in (directory / "train", directory / ".train.partial") if (home / LOGS / TASK).is_file()]
    if not homes:
        raise InputError("no training has been begun here.", where=str(directory), mend="Run `megalith train` first.")
    step = int(at)
    return next((home for home in homes if Name(step) in standing(home / "checkpoints")), homes[0]), step


def _task_of(workspace: Path) -> TrainTask:
    path = workspace / LOGS / TASK
    try:
        return TrainTask.model_validate(read_json(path))
    except ValidationError as error:
        raise InputError("this was not written by this version of Megalith, or is damaged.", where=str(path)) from error


def _inputs_of(workspace: Path) -> dict[str, str]:
    if (workspace / MANIFEST).is_file():
        return read_manifest(workspace).inputs
    begun = read_mark(workspace)
    return dict(begun.request.inputs) if begun and begun.request else {}


def _filled(recipe: Recipe, trunk: Recipe) -> Recipe:
    """The recipe, with the trunk's values for what it leaves to a plan."""
    values: dict[str, Any] = {}
    if not recipe.model.is_sized:
        values["model"] = trunk.model.model_dump()
    for key in ("train.tokens", "train.micro_batch_size", "parallel.tensor", "parallel.pipeline", "parallel.data"):
        section, name = key.split(".")
        if getattr(getattr(recipe, section), name) is None:
            values[key] = getattr(getattr(trunk, section), name)
    if recipe.train.precision == "auto":
        values["train.precision"] = trunk.train.precision
    return load_recipe(recipe, values)[0]


def _changes(trunk: Recipe, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """The settings that make another run, by key: the trunk's value and the recipe's."""
    before, now = (
        flat({name: value for name, value in settings_of(each)[0].items() if name != "version"}) | {"seed": each.seed}
        for each in (trunk, recipe)
    )
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return {key: (before.get(key), now.get(key)) for key in keys}


def _refuse_another_run(changes: dict[str, tuple[Any, Any]], *, dropout: bool) -> None:
    for key, (was, now) in changes.items():
        row = change_of(key, dropout=dropout)
        if row.effect == "refuse":
            raise RecipeError(
                f"a branch cannot change it: {json.dumps(was)} in the trunk and {json.dumps(now)} now ({row.why}).",
                where=key,
                mend="Set it back, or train a run of its own with --output DIR.",
            )


def _check_tokenizer(workspace: Path, task: TrainTask, tokens: Artifact) -> None:
    homes = [workspace / "model", *([task.tokens] if task.tokens != tokens.path.absolute() else [])]
    theirs = next((home / TOKENIZER for home in homes if (home / TOKENIZER).is_file()), None)
    if theirs is not None:
        check_tokenizer(tokens.path / TOKENIZER, theirs)


def _mark(changes: dict[str, tuple[Any, Any]], cooldown: int | None) -> str:
    """The part of a directory's name that tells branches from one step apart."""
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:6]
    if cooldown is None:
        return digest
    return f"cooldown-{cooldown}" + (f"-{digest}" if changes else "")


def _begun(*places: Path) -> Trunk | None:
    """The trunk of a branch that has been begun: its checkpoint may be gone by now."""
    for place in places:
        if (place / LOGS / TASK).is_file():
            return _task_of(place).trunk
    return None


def _found(checkpoint: Path, task: TrainTask, changes: dict[str, tuple[Any, Any]]) -> Trunk:
    try:
        sealed = unseal((checkpoint / STATE).read_bytes())
    except OSError:
        sealed = None
    if sealed is None:
        steps = sorted(name.step for name in standing(checkpoint.parent))
        there = f"there are those of {', '.join(map(str, steps))}" if steps else "there is none"
        raise InputError(
            f"no whole checkpoint of this step stands: {there}.",
            where=str(checkpoint),
            mend="Use one of them; train.milestones names steps whose checkpoints are kept for good.",
        )
    samples, drawn = sealed.progress["samples"], task.drawn
    data_from = task.data_from
    if "inputs.tokens" in changes:
        data_from, drawn = samples, {}
    elif any(key.startswith("blend") for key in changes):
        windows = partial(blended_windows, task.recipe.mixture, task.tokens)
        counts = windows(task.recipe.model.sequence_length, task.recipe.seed).counts(samples - data_from)
        drawn = {
            each: drawn.get(each, 0) + count for each, count in zip(task.recipe.mixture.datasets, counts, strict=True)
        }
        data_from = samples
    return Trunk(
        checkpoint=checkpoint.absolute(),
        run=task.run,
        step=sealed.progress["step"],
        tokens=sealed.progress["tokens"],
        digest=file_digest(checkpoint / STATE),
        data_from=data_from,
        drawn=drawn,
    )


def _with_schedule(recipe: Recipe, trunk: Recipe, found: Trunk, cooldown: int | None) -> Recipe:
    """The recipe with the cooldown's schedule, and with the trunk's warm-up where its length follows the tokens."""
    values: dict[str, Any] = {}
    if cooldown is not None:
        _refuse_falling_rate(trunk, found)
        values = {
            "train.schedule": "wsd",
            "train.tokens": found.tokens + cooldown,
            "train.decay_tokens": None,
            "train.cooldown_tokens": cooldown,
        }
    total = values.get("train.tokens", recipe.train.tokens)
    if total != trunk.train.tokens and recipe.train.warmup_tokens is None:
        values["train.warmup_tokens"] = round(warmup_tokens(trunk.train))
    if total is not None and total <= found.tokens:
        raise RecipeError(
            f"{total:,} tokens are asked for, and {found.tokens:,} are behind step {found.step:,}.",
            where="train.tokens",
            mend="Set more, or branch at an earlier step.",
        )
    return load_recipe(recipe, values)[0] if values else recipe


def _refuse_falling_rate(trunk: Recipe, found: Trunk) -> None:
    rate = learning_rate(trunk.train, found.tokens)
    if not math.isclose(rate, trunk.train.learning_rate, rel_tol=1e-9):
        raise RecipeError(
            f"a cooldown begins at the peak of {trunk.train.learning_rate:g}, and at step {found.step:,} of this "
            f"{trunk.train.schedule} schedule the rate is {rate:g}.",
            where="--cooldown",
            mend="Use a step of the stable part of a wsd or constant schedule.",
        )
