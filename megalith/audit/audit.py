"""The audit stage: HANS and associations, each with a file of per-item results and a section of the facts."""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, produce
from megalith.audit import association, hans
from megalith.console import progress
from megalith.inference import Advance, load_model, model_digests
from megalith.recipe import Recipe

VERSION = 2


def audit(recipe: Recipe, path: Path, model: Path) -> Artifact:
    """Audit the model in the directory `model`; the results are the artifact's facts.

    Raises InputError for a model that cannot be read, RecipeError for more HANS examples than the templates yield.
    """

    def build(workspace: Workspace) -> Mapping[str, Any]:
        start = time.monotonic()
        asked = hans.examples(recipe.audit.hans_examples, recipe.seed)
        lm = load_model(model)
        batch_tokens = recipe.evaluate.batch_tokens
        questions = partial(hans.judge, lm, asked, recipe.audit.shots, recipe.seed, batch_tokens)
        return {
            "hans": hans.summary(_results(workspace, "hans", questions)),
            "association": association.summary(
                _results(workspace, "association", partial(association.judge, lm, batch_tokens))
            ),
            "seconds": round(time.monotonic() - start, 3),
        }

    return produce(
        path,
        stage="audit",
        settings={
            "audit": recipe.audit.model_dump(mode="json", include={"hans_examples", "shots"}),
            "batch_tokens": recipe.evaluate.batch_tokens,
            "version": VERSION,
        },
        inputs=model_digests(model),
        seed=recipe.seed,
        build=build,
    )


def _results(workspace: Workspace, name: str, judge: Callable[[Advance], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the per-item results of an earlier attempt, or new ones."""
    standing = workspace.path / "items" / f"{name}.jsonl"
    if not standing.is_file():
        with progress() as bar:
            line = bar.add_task(f"Auditing: {name}", total=None)
            found = judge(lambda done, total: bar.update(line, completed=done, total=total))
        with workspace.file(f"items/{name}.jsonl") as path:
            path.write_text("".join(json.dumps(result, ensure_ascii=False) + "\n" for result in found))
    return [json.loads(text) for text in standing.read_text().splitlines()]
