"""The evaluate stage: every task of the recipe at every number of shots, one file of per-item results each.

What is in the workspace is not scored again; the table is always made from the files of the items.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.errors import InputError
from megalith.evaluation.asking import Asker
from megalith.evaluation.chosen import PERPLEXITY, Chosen, chosen_tasks, template_digest
from megalith.evaluation.contamination import Judged, judge_contamination
from megalith.evaluation.document import Document
from megalith.evaluation.inputs import standing_inputs
from megalith.evaluation.perplexity import Blocks, judge_texts
from megalith.evaluation.rows import by_field, rows_of
from megalith.evaluation.runs import Run
from megalith.evaluation.scoring import Result, Scoring, judge
from megalith.evaluation.shots import ShotPlan, TooFewShotsError
from megalith.evaluation.task import Task
from megalith.evaluation.texts import Text, held_out
from megalith.inference import keyed_hash, load_prepared, samples
from megalith.input_files import expand
from megalith.recipe import EvaluateConfig, Recipe

VERSION = 2
PROMPTS = (
    "The",
    "This module provides",
    "Return a new",
    "If the file does not exist,",
    "In the beginning",
    "The most important thing about a language is",
)
_DIGESTS = {"tokenizer": "tokenizer.json", "weights": "model.safetensors"}
_LEFT_OUT = ("data", "texts", "tasks", "every")  # told by digests and not by where they lie; of training


def evaluate(recipe: Recipe, path: Path, model: Path, tokens: Artifact | None, corpus: Artifact | None) -> Artifact:
    """Evaluate the model in the directory `model`; the table is in the artifact's facts.

    The items of last_word and continuation come from the corpus; perplexity reads its held-out documents (else those of
    `tokens`), or `evaluate.texts`. A task of the corpus without items, and one with too few for its shots, has rows
    with 0 documents, no score and the reason. `samples.json` holds generated text.

    Raises RecipeError for an unknown task, InputError for a model, a task file or texts that cannot be read.
    """
    config = recipe.evaluate
    chosen = chosen_tasks(config, corpus)
    texts = expand(Path(config.texts), where="evaluate.texts") if config.texts else None
    inputs = standing_inputs(model, tokens, corpus, texts)
    inputs |= {name: file_digest(file) for one in chosen for name, file in one.files.items()}

    def build(workspace: Workspace) -> Mapping[str, Any]:
        start = time.monotonic()
        scoring = Scoring(
            load_prepared(model), config.batch_tokens, config.prefix, config.batch_invariant, config.forms
        )
        same = {f"{kind}_digest": inputs[f"model/{name}"] for kind, name in _DIGESTS.items()}
        find_texts = partial(held_out, scoring.lm, texts, corpus, tokens, _most(config), recipe.seed)
        facts: dict[str, list[Any]] = {"tasks": [], "runs": [], "by_field": []}
        judged: list[Judged] = []
        for one in chosen:
            for run in runs_of(recipe, scoring, one, find_texts):
                results = run.results(workspace, config.batch_tokens)
                rows = rows_of(run.kind, run.name, run.shots, results, config.forms)
                facts["tasks"] += [row | run.row | same | {"note": row["note"] or run.note} for row in rows]
                facts["runs"].append(run.tell(results))
                facts["by_field"] += by_field(rows, results, run.by)
                judged += [Judged(run.name, run.shots, run.texts, results)] if run.texts and results else []
        if corpus is not None and config.contamination and judged:
            facts["contamination"] = judge_contamination(workspace, corpus.path, judged)
        workspace.write_json("samples.json", samples(scoring.lm, PROMPTS, recipe.audit.generated_tokens, recipe.seed))
        return {
            **facts,
            "truncated": sum(run["truncated"] for run in facts["runs"]),
            "seconds": round(time.monotonic() - start, 3),
        }

    return produce(
        path,
        stage="evaluate",
        settings={
            "evaluate": config.model_dump(mode="json", exclude={*_LEFT_OUT}) | {"tasks": [one.name for one in chosen]},
            "generated_tokens": recipe.audit.generated_tokens,
            "version": VERSION,
        },
        inputs=inputs,
        seed=recipe.seed,
        build=build,
    )


def select(documents: Sequence[Document], count: int | None, seed: int) -> list[Document]:
    """Draw at most `count` documents by a hash of their ids, all for None; their order is kept."""
    if count is None or len(documents) <= count:
        return list(documents)
    drawn = sorted(documents, key=lambda one: (keyed_hash(seed, one.id), one.id))[:count]
    chosen = {one.id for one in drawn}
    return [one for one in documents if one.id in chosen]


def _most(config: EvaluateConfig) -> int | None:
    return None if config.items == "all" else config.items


def runs_of(recipe: Recipe, scoring: Scoring, one: Chosen, find_texts: Callable[[], list[Text]]) -> Iterator[Run]:
    """A task at each of the recipe's numbers of shots; `find_texts` gives the documents of a perplexity."""
    if one.name == PERPLEXITY:
        yield _of_texts(recipe.evaluate, scoring, find_texts())
    elif one.kind == "perplexity":
        yield _of_one_text(recipe.evaluate, scoring, one)
    else:
        yield from _with_shots(recipe, scoring, one)


def _of_texts(config: EvaluateConfig, scoring: Scoring, found: Sequence[Text]) -> Run:
    texts = [replace(text, text=text.text[: config.document_characters]) for text in found]

    def scored(places: Sequence[int]) -> list[Result]:
        return judge_texts(scoring, [texts[place] for place in places], config.stride)

    sizes, ids = [len(text.text) for text in texts], [(text.id, text.text) for text in texts]
    return Run(PERPLEXITY, "perplexity", 0, sizes, scored, texts=ids)


def _of_one_text(config: EvaluateConfig, scoring: Scoring, one: Chosen) -> Run:
    (document,) = one.documents(0)
    blocks = Blocks(scoring, document, config.stride)
    limit = scoring.lm.config.sequence_length
    note = f"Windows move by {blocks.stride:,} of {limit:,} tokens; Megatron-LM's moved by 32 of 1,024."
    row = {"version": one.task.version if one.task else 1, "task_digest": one.digest}
    row["template_digest"] = template_digest([document])
    return Run(one.name, "perplexity", 0, [4 * limit] * len(blocks.blocks), blocks.judge, note, row=row)


def _with_shots(recipe: Recipe, scoring: Scoring, one: Chosen) -> Iterator[Run]:
    """A run for each number of shots. Shots come from the whole pool, whichever documents are scored."""
    config, task = recipe.evaluate, one.task
    documents = one.documents(recipe.seed)
    pool = one.pool(documents, recipe.seed) if any(config.shots) else []
    asked = select(documents, _most(config), recipe.seed)
    for shots in dict.fromkeys(config.shots):
        if task is None:
            note = "There is no corpus, or it has no items of this task."
            yield Run(one.name, one.kind, shots, [], lambda places: [], note)
            continue
        plan = _plan(config, task, shots, recipe.seed)
        asker = Asker(
            scoring.lm,
            pool,
            plan,
            separator=task.separator,
            too_long=config.too_long,
            letters=task.kind == "choice" and "letter" in config.forms,
            generated_tokens=task.generated_tokens if task.kind == "generate" else 0,
        )
        why_not = _too_few(one.name, asker, asked)
        row = {"version": task.version, "task_digest": one.digest, "template_digest": template_digest(documents)}
        told = {
            "prompt": task.prompt_name(one.prompt),
            "questions": len(documents),
            "labels": dict(sorted(Counter(document.label for document in asked if document.label).items())),
            "shots_from": [path.name for path in task.shot_paths(one.directory)] or "the questions themselves",
        }
        solved = 0 if plan.fixed or plan.first else sum(len(example.solved) for example in pool) // max(1, len(pool))
        sizes = [len(document.prompt) + shots * solved for document in asked] if not why_not else []
        judge_places = partial(_judged, scoring, task, asker, asked)
        texts = [(document.id, document.text) for document in asked]
        yield Run(one.name, one.kind, shots, sizes, judge_places, why_not, task.by, row, told, texts)


def _judged(
    scoring: Scoring, task: Task, asker: Asker, documents: Sequence[Document], places: Sequence[int]
) -> list[Result]:
    return judge(scoring, task, [asker.ask(documents[place]) for place in places])


def _too_few(name: str, asker: Asker, documents: Sequence[Document]) -> str | None:
    """Why the documents cannot have as many solved examples; None where they can.

    Raises InputError for a plan that the task's examples do not allow at all.
    """
    try:
        for document in documents:
            asker.shots(document)
    except TooFewShotsError as error:
        return f"No score: {error.what}"
    except InputError as error:
        mend = (
            "Set evaluate.shots, evaluate.shot_labels or evaluate.wrong_labels to what this task allows, or remove it."
        )
        raise InputError(error.what, where=f"{name}, {error.where}", mend=mend) from error
    return None


def _plan(config: EvaluateConfig, task: Task, shots: int, seed: int) -> ShotPlan:
    return ShotPlan(
        count=shots,
        seed=seed if config.shot_seed is None else config.shot_seed,
        fixed=config.fixed_shots,
        order=config.shot_order,
        order_seed=config.order_seed,
        labels=config.shot_labels,
        wrong=config.wrong_labels,
        source=(task.shots_like, "same") if task.shots_like else None,
        first=task.first_shots,
    )
