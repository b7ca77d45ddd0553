"""The audit stage: each instrument leaves files of per-item results and a section of the facts."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.audit.association import association
from megalith.audit.bbq import bbq
from megalith.audit.crows_pairs import crows_pairs
from megalith.audit.hans import hans
from megalith.audit.instrument import Facts, Instrument, Item, Run, Skipped
from megalith.audit.occupations import OCCUPATIONS, read_occupations
from megalith.audit.subject import LanguageSubject
from megalith.audit.winobias import winobias
from megalith.audit.winogender import winogender
from megalith.console import progress
from megalith.errors import InputError
from megalith.inference import LanguageModel, load_model, model_digests
from megalith.input_files import expand
from megalith.recipe import Recipe

VERSION = 3
_PLACES = {"data", "occupations"}
"""Settings that name files: the artifact depends on what the files hold."""


def audit(recipe: Recipe, path: Path, model: Path) -> Artifact:
    """Audit the model in the directory `model`; the results are the artifact's facts, a section for each instrument.

    The section of an instrument that needs official files which are not there is {"skipped": reason}.

    Raises InputError for a model or a file that cannot be read, RecipeError for more HANS examples than the templates
    yield.
    """
    instruments = {name: _INSTRUMENTS[name](recipe) for name in dict.fromkeys(recipe.audit.instruments)}
    ready = {name: one for name, one in instruments.items() if isinstance(one, Instrument)}

    def build(workspace: Workspace) -> Mapping[str, Any]:
        start = time.monotonic()
        lm = load_model(model)
        return {
            **{name: _facts(workspace, lm, recipe.evaluate.batch_tokens, one) for name, one in instruments.items()},
            "seconds": round(time.monotonic() - start, 3),
        }

    return produce(
        path,
        stage="audit",
        settings={
            "audit": recipe.audit.model_dump(mode="json", exclude=_PLACES | {"generated_tokens"}),
            "batch_tokens": recipe.evaluate.batch_tokens,
            "skipped": sorted(instruments.keys() - ready.keys()),
            "version": VERSION,
        },
        inputs=model_digests(model)
        | {f"{name}/{file.name}": file_digest(file) for name, one in ready.items() for file in one.files},
        seed=recipe.seed,
        build=build,
    )


def data_directory(given: str | None) -> Path | None:
    """Return the directory of official files: the setting, else $MEGALITH_DATA/benchmarks where that is one.

    Raises InputError where the setting names a directory that is missing.
    """
    if given is None:
        default = os.environ.get("MEGALITH_DATA")
        place = Path(default) / "benchmarks" if default else None
        return place if place and place.is_dir() else None
    place = expand(Path(given), where="audit.data")
    if not place.is_dir():
        raise InputError("this directory is missing.", where=f"audit.data, {place}")
    return place


def _association(recipe: Recipe) -> Instrument:
    if recipe.audit.occupations is None:
        return association(OCCUPATIONS)
    file = expand(Path(recipe.audit.occupations), where="audit.occupations")
    return association(read_occupations(file), [file])


def _official(
    make: Callable[[Path | None, int, int], Instrument | Skipped],
) -> Callable[[Recipe], Instrument | Skipped]:
    return lambda recipe: make(data_directory(recipe.audit.data), recipe.audit.items, recipe.seed)


_INSTRUMENTS: Mapping[str, Callable[[Recipe], Instrument | Skipped]] = {
    "hans": lambda recipe: hans(recipe.audit.hans_examples, recipe.audit.shots, recipe.seed),
    "association": _association,
    "winogender": _official(winogender),
    "winobias": _official(winobias),
    "crows_pairs": _official(crows_pairs),
    "bbq": _official(bbq),
}


def _facts(workspace: Workspace, lm: LanguageModel, batch_tokens: int, instrument: Instrument | Skipped) -> Facts:
    if isinstance(instrument, Skipped):
        return {"skipped": instrument.reason}
    return instrument.summary({run.name: _results(workspace, lm, batch_tokens, run) for run in instrument.runs})


def _results(workspace: Workspace, lm: LanguageModel, batch_tokens: int, run: Run) -> list[Item]:
    """Return the per-item results of an earlier attempt, or new ones."""
    standing = workspace.path / "items" / f"{run.name}.jsonl"
    if not standing.is_file():
        with progress() as bar:
            line = bar.add_task(f"Auditing: {run.name}", total=None)
            found = run.judge(
                LanguageSubject(lm, batch_tokens, lambda done, total: bar.update(line, completed=done, total=total))
            )
        with workspace.file(f"items/{run.name}.jsonl") as path:
            path.write_text("".join(json.dumps(result, ensure_ascii=False) + "\n" for result in found))
    return [json.loads(text) for text in standing.read_text().splitlines()]
