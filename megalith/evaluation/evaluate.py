"""The evaluate stage: every task of the recipe at every number of shots, one file of per-item results each.

A task × shots whose file is in the workspace is not scored again; the table is always made from the files.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, produce
from megalith.console import progress
from megalith.evaluation import rows
from megalith.evaluation import scored as tasks
from megalith.evaluation.arithmetic import arithmetic_items
from megalith.evaluation.inputs import named_files, standing_inputs
from megalith.evaluation.items import Item, read_items, select
from megalith.evaluation.texts import Text, held_out
from megalith.inference import Advance, LanguageModel, load_model, samples
from megalith.recipe import Recipe

VERSION = 1
PROMPTS = (
    "The",
    "This module provides",
    "Return a new",
    "If the file does not exist,",
    "In the beginning",
    "The most important thing about a language is",
)


def evaluate(
    recipe: Recipe,
    path: Path,
    model: Path,
    tokens: Artifact | None,
    corpus: Artifact | None,
    *,
    texts: Path | None = None,
    task_files: Sequence[Path] = (),
) -> Artifact:
    """Evaluate the model in the directory `model`; the table is in the artifact's facts.

    The items of last_word and continuation come from the corpus; perplexity reads its held-out documents (else those of
    `tokens`), or the user's `texts`: a text file, a directory of them, or JSON lines with `text`. Each of `task_files`
    is a task of the user (see `items.py`), named after its file. A task without items, or with too few for its shots,
    has rows with 0 documents and no score. `samples.json` holds generated text.

    Raises InputError for a model, a task file or texts that cannot be read.
    """
    own_tasks = named_files(task_files)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        start = time.monotonic()
        lm = load_model(model)
        find_texts = partial(held_out, lm, texts, corpus, tokens, recipe.evaluate.items, recipe.seed)
        runs = [*_perplexity(recipe, lm, find_texts), *_with_shots(recipe, lm, corpus, own_tasks)]
        results = [_results(run, workspace) for run in runs]
        written = samples(lm, PROMPTS, recipe.audit.generated_tokens, recipe.seed)
        workspace.write_json("samples.json", written)
        return {
            "tasks": [row for run, found in zip(runs, results, strict=True) for row in run.table(found)],
            "runs": [_tell(run, found) for run, found in zip(runs, results, strict=True)],
            "truncated": sum(result.get("truncated", False) for found in results for result in found),
            "seconds": round(time.monotonic() - start, 3),
        }

    return produce(
        path,
        stage="evaluate",
        settings={
            "evaluate": recipe.evaluate.model_dump(mode="json"),
            "generated_tokens": recipe.audit.generated_tokens,
            "version": VERSION,
        },
        inputs=standing_inputs(model, tokens, corpus, texts, own_tasks),
        seed=recipe.seed,
        build=build,
    )


@dataclass(frozen=True)
class _Run:
    """One task at one number of shots."""

    name: str
    shots: int
    score: Callable[[Advance], list[tasks.Result]]
    tabulate: Callable[[str, int, Sequence[tasks.Result]], list[rows.Row]]

    @property
    def file(self) -> str:
        return f"items/{self.name}-{self.shots}.jsonl"

    def table(self, results: Sequence[tasks.Result]) -> list[rows.Row]:
        """The rows of this run; `truncated` counts the items whose prompt was cut to fit the context."""
        cut = sum(result.get("truncated", False) for result in results)
        return [row | {"truncated": cut} for row in self.tabulate(self.name, self.shots, results)]


def _perplexity(recipe: Recipe, lm: LanguageModel, find_texts: Callable[[], list[Text]]) -> Iterator[_Run]:
    if "perplexity" in recipe.evaluate.tasks:

        def scored(advance: Advance) -> list[tasks.Result]:
            longest = recipe.evaluate.document_characters
            texts = [replace(text, text=text.text[:longest]) for text in find_texts()]
            return tasks.perplexity(lm, texts, recipe.evaluate.batch_tokens, advance)

        yield _Run("perplexity", 0, scored, rows.perplexity_rows)


def _with_shots(
    recipe: Recipe, lm: LanguageModel, corpus: Artifact | None, own_tasks: Mapping[str, Path]
) -> Iterator[_Run]:
    for name in recipe.evaluate.tasks:
        match name:
            case "last_word":
                yield from _runs(recipe, lm, name, _corpus_items(corpus, name), tasks.last_word, rows.last_word_rows)
            case "continuation":
                yield from _runs(recipe, lm, name, _corpus_items(corpus, name), tasks.continuation, rows.choice_rows)
            case "arithmetic":
                pool = arithmetic_items(recipe.seed)
                yield from _runs(recipe, lm, name, pool, tasks.arithmetic, rows.exact_rows)
    for own, file in own_tasks.items():
        pool = read_items(file)
        if pool and len(pool[0].choices) > 1:
            yield from _runs(recipe, lm, own, pool, tasks.continuation, rows.choice_rows)
        else:
            yield from _runs(recipe, lm, own, pool, tasks.last_word, rows.last_word_rows)


def _runs(
    recipe: Recipe,
    lm: LanguageModel,
    name: str,
    pool: Sequence[Item],
    task: Callable[[LanguageModel, Sequence[Item], Sequence[Sequence[Item]], int, Advance], list[tasks.Result]],
    table: Callable[[str, int, Sequence[tasks.Result]], list[rows.Row]],
) -> Iterator[_Run]:
    """Yield a run for each number of shots. Shots come from the whole pool, whichever items are scored."""
    items = select(pool, recipe.evaluate.items, recipe.seed)
    for shots in dict.fromkeys(recipe.evaluate.shots):
        shown = tasks.show(items, pool, shots, recipe.seed)

        def scored(advance: Advance, shown: list[list[Item]] | None = shown) -> list[tasks.Result]:
            if not items or shown is None:
                return []
            return task(lm, items, shown, recipe.evaluate.batch_tokens, advance)

        yield _Run(name, shots, scored, table)


def _corpus_items(corpus: Artifact | None, name: str) -> list[Item]:
    return read_items(corpus.path / "tasks" / f"{name}.jsonl") if corpus else []


def _results(run: _Run, workspace: Workspace) -> list[tasks.Result]:
    """Return the per-item results of an earlier attempt, or new ones."""
    standing = workspace.path / run.file
    if not standing.is_file():
        with progress() as bar:
            line = bar.add_task(f"Evaluating {run.name}, {run.shots} shots", total=None)
            found = run.score(lambda done, total: bar.update(line, completed=done, total=total))
        with workspace.file(run.file) as path:
            path.write_text("".join(json.dumps(result, ensure_ascii=False) + "\n" for result in found))
    return [json.loads(line) for line in standing.read_text().splitlines()]


def _tell(run: _Run, results: Sequence[tasks.Result]) -> dict[str, Any]:
    """Return details of a run that are not in the table."""
    places = Counter(result["predicted"] for result in results if "predicted" in result)
    return {
        "name": run.name,
        "shots": run.shots,
        "documents": len(results),
        "truncated": sum(result.get("truncated", False) for result in results),
        "straddled": sum(result.get("straddled", False) for result in results),
        "predicted_positions": [places[place] for place in range(max(places) + 1)] if places else None,
    }
