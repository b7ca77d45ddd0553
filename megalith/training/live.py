"""Tasks scored within training (`evaluate.every`): on the live weights, in the layout in which they are trained.

It changes no bit of the training: weights are only read, random states are put back, and what ZeRO gathers for it is
dropped again before the next step.
"""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from megalith.artifacts import Artifact, open_artifact
from megalith.console import note
from megalith.errors import UnsupportedError
from megalith.evaluation.chosen import Chosen, chosen_tasks
from megalith.evaluation.evaluate import runs_of
from megalith.evaluation.rows import rows_of
from megalith.evaluation.runs import parts_of
from megalith.evaluation.scoring import Scoring
from megalith.evaluation.texts import held_out
from megalith.inference import LanguageModel
from megalith.inference.rank_scorer import RankScorer
from megalith.input_files import expand
from megalith.model import GPT
from megalith.parallel.data_parallel import gathered
from megalith.recipe import Recipe
from megalith.tokens import load_tokenizer
from megalith.training.run_state import Run
from megalith.training.task import TrainTask

KEPT = ("name", "shots", "metric", "score", "standard_error", "documents", "note")
"""Columns of a row that the history keeps."""


@dataclass(frozen=True)
class LiveTasks:
    """The tasks of a run, and the model that they are put to."""

    scoring: Scoring
    chosen: list[Chosen]
    corpus: Artifact | None
    tokens: Artifact

    def judge(self, run: Run) -> dict[str, Any]:
        """The rows of all tasks under the weights of this moment, as a line of the history. Every rank calls it."""
        recipe = run.task.recipe
        config = recipe.evaluate
        texts = expand(Path(config.texts), where="evaluate.texts") if config.texts else None
        most = None if config.items == "all" else config.items
        find_texts = partial(held_out, self.scoring.lm, texts, self.corpus, self.tokens, most, recipe.seed)
        found: list[dict[str, Any]] = []
        devices = [run.ranks.device] if run.ranks.device.type == "cuda" else []
        with torch.random.fork_rng(devices), gathered(list(run.model.stages.values()), run.model.parallel.zero):
            for one in self.chosen:
                for each in runs_of(recipe, self.scoring, one, find_texts):
                    parts = parts_of(each.sizes, 4 * config.batch_tokens)
                    results = [result for places in parts for result in each.judge(places)]
                    rows = rows_of(each.kind, each.name, each.shots, results, config.forms)
                    found += [{key: row.get(key) for key in KEPT} | {"note": row["note"] or each.note} for row in rows]
        return {"step": run.progress.step, "tokens": run.progress.tokens, "rows": found}


def live_tasks(run: Run) -> LiveTasks | None:
    """The tasks that a run scores on its way; None where it scores none."""
    recipe, task = run.task.recipe, run.task
    if not recipe.evaluate.every:
        return None
    corpus = None if task.corpus is None else open_artifact(task.corpus, "curate", check=False)
    chosen = chosen_tasks(recipe.evaluate, corpus)
    written = [one.name for one in chosen if one.kind == "generate"]
    if written and run.ranks.is_rank_zero:
        note(f"{', '.join(written)}: not scored within training, since their answers are written by the model")
    config = recipe.evaluate
    scoring = Scoring(
        _language_model(task), config.batch_tokens, config.prefix, config.batch_invariant, config.forms, _scorer(run)
    )
    kept = [one for one in chosen if one.kind != "generate"]
    return LiveTasks(scoring, kept, corpus, open_artifact(task.tokens, "tokenize", check=False))


def refuse_live_tasks(recipe: Recipe) -> None:
    """Raise UnsupportedError where tasks cannot be scored within training, RecipeError for an unknown one."""
    if not recipe.evaluate.every:
        return
    if recipe.model.family != "gpt":
        raise UnsupportedError(
            "tasks are for a model that writes, and a BERT model does not.",
            where="evaluate.every",
            mend="Set evaluate.every=0.",
        )
    if recipe.train.compile:
        raise UnsupportedError(
            "compiled layers cannot be scored within training: each change of their attention compiles them anew.",
            where="evaluate.every",
            mend="Set train.compile=false, or evaluate.every=0.",
        )


def timed(live: LiveTasks, run: Run) -> tuple[dict[str, Any], float]:
    """The line of the history, and the seconds that it took."""
    start = time.perf_counter()
    return live.judge(run), time.perf_counter() - start


def _scorer(run: Run) -> RankScorer:
    stages = {number: stage for number, stage in run.model.stages.items() if isinstance(stage, GPT)}
    parallel, pipeline = run.model.parallel, run.ranks.size("pipeline")
    count = pipeline * (parallel.virtual_stages if pipeline > 1 else 1)
    return RankScorer(stages, count, run.ranks, sequence_parallel=parallel.sequence_parallel, gathered=True)


def _language_model(task: TrainTask) -> LanguageModel:
    """Shape and tokenizer of the model; its weights are the ranks'."""
    tokenizer = load_tokenizer(task.tokens)
    with torch.device("meta"):
        model = GPT(task.recipe.model)
    return LanguageModel(model, task.recipe.model, tokenizer, tuple(map(len, tokenizer.token_bytes or ())))
