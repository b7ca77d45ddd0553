"""The audit stage: each instrument leaves files of per-item results and a section of the facts."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.audit.catalogue import INSTRUMENTS
from megalith.audit.instrument import Facts, Instrument, Item, Run, Skipped
from megalith.audit.subject import LanguageSubject
from megalith.console import progress
from megalith.inference import LanguageModel, load_prepared, model_digests
from megalith.recipe import Recipe

VERSION = 3
RUNS = "runs.jsonl"
"""Log of the runs with their seconds, by the clock and of the processor; a run that was done again has two lines."""
_PLACES = {"data", "occupations", "hans_file"}
"""Settings that name files: the artifact depends on what the files hold."""


def audit(recipe: Recipe, path: Path, model: Path) -> Artifact:
    """Audit the model in the directory `model`; the results are the artifact's facts, a section for each instrument.

    The section of an instrument that needs official files which are not there is {"skipped": reason}.

    Raises InputError for a model or a file that cannot be read, RecipeError for more HANS examples than the templates
    yield.
    """
    instruments = {name: INSTRUMENTS[name](recipe) for name in dict.fromkeys(recipe.audit.instruments)}
    ready = {name: one for name, one in instruments.items() if isinstance(one, Instrument)}

    def build(workspace: Workspace) -> Mapping[str, Any]:
        start = time.monotonic()
        lm = load_prepared(model)
        return {
            **{name: _facts(workspace, lm, recipe.evaluate.batch_tokens, one) for name, one in instruments.items()},
            "seconds": round(time.monotonic() - start, 3),
        }

    return produce(
        path,
        stage="audit",
        settings={
            "audit": recipe.audit.model_dump(mode="json", exclude=_PLACES),
            "batch_tokens": recipe.evaluate.batch_tokens,
            "skipped": sorted(instruments.keys() - ready.keys()),
            "version": VERSION,
        },
        inputs=model_digests(model)
        | {f"{name}/{file.name}": file_digest(file) for name, one in ready.items() for file in one.files},
        seed=recipe.seed,
        build=build,
    )


def _facts(workspace: Workspace, lm: LanguageModel, batch_tokens: int, instrument: Instrument | Skipped) -> Facts:
    if isinstance(instrument, Skipped):
        return {"skipped": instrument.reason}
    facts = instrument.summary({run.name: _results(workspace, lm, batch_tokens, run) for run in instrument.runs})
    return {key: _finite(value) for key, value in facts.items()}


def _finite(value: Any) -> Any:
    """Return facts with None for each number that is not finite: an interval of one unit has no ends."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _results(workspace: Workspace, lm: LanguageModel, batch_tokens: int, run: Run) -> list[Item]:
    """Return the per-item results of an earlier attempt, or new ones."""
    standing = workspace.path / "items" / f"{run.name}.jsonl"
    if not standing.is_file():
        with progress() as bar:
            line = bar.add_task(f"Auditing: {run.name}", total=None)
            wall, processor = time.monotonic(), time.process_time()
            found = run.judge(
                LanguageSubject(lm, batch_tokens, lambda done, total: bar.update(line, completed=done, total=total))
            )
            spent = {"seconds": time.monotonic() - wall, "processor_seconds": time.process_time() - processor}
        with (workspace.logs / RUNS).open("a") as log:
            log.write(json.dumps({"run": run.name, "items": len(found), **spent}) + "\n")
        with workspace.file(f"items/{run.name}.jsonl") as path:
            path.write_text("".join(json.dumps(result, ensure_ascii=False) + "\n" for result in found))
    return [json.loads(text) for text in standing.read_text().splitlines()]
