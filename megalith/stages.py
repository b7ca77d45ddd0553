"""The stages of an expedition: what each needs, and how it is called.

The only module that knows every stage. Stages meet on disk: what one leaves, the next is handed.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from megalith.artifacts import MANIFEST, Artifact, read_manifest
from megalith.console import human_seconds, note
from megalith.input_files import read_model
from megalith.recipe import Recipe

if TYPE_CHECKING:
    from megalith.inference.embedder import Embedder

STAGES = ("crawl", "curate", "tokenize", "plan", "train", "evaluate", "audit")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "crawl": (),
    "curate": ("crawl",),
    "tokenize": ("curate",),
    "plan": (),
    "train": ("tokenize",),
    "evaluate": ("train",),
    "audit": ("train",),
}
USES: Mapping[str, tuple[str, ...]] = {
    "crawl": (),
    "curate": (),
    "tokenize": (),
    "plan": ("tokenize",),
    "train": (),
    "evaluate": ("curate", "tokenize"),
    "audit": (),
}
"""Artifacts that a stage reads where they stand, beside those that it needs."""


def stages_of(recipe: Recipe, sources: Sequence[Path]) -> list[str]:
    """The stages of an expedition, in order: sources take the place of the crawl, shards that of a corpus."""
    left_out = {"crawl", "curate"} if recipe.tokens.sources else {"crawl"} if sources else set()
    return [stage for stage in STAGES if stage not in left_out]


def run_one(
    stage: str,
    recipe: Recipe,
    directory: Path,
    sources: Sequence[Path],
    made: Mapping[str, Artifact],
    heading: str,
    model: Path | None = None,
) -> Artifact:
    """The artifact of a stage, of those in `made`; `heading` stands before the line that says what came of it."""
    begun = time.monotonic()
    artifact = _CALLS[stage](_Place(recipe, directory, sources, made, model))
    how = "stands already" if artifact.reused else f"took {human_seconds(time.monotonic() - begun)}"
    if os.environ.get("RANK", "0") == "0":  # one of those that a launcher has started speaks
        note(f"{heading:>5}  {stage:<9} {how:<16} {artifact.path}")
    return artifact


def resolved_recipe(recipe: Recipe, plan: Artifact) -> Recipe:
    """The recipe with everything that the plan chose filled in: shape, tokens, layout, micro-batch, precision."""
    chosen = read_model(plan.path / "recipe.json", Recipe, mend=f"Remove {plan.path} and plan again.")
    spending = {name: getattr(chosen.train, name) for name in ("tokens", "micro_batch_size", "precision")}
    return recipe.model_copy(
        update={
            "model": chosen.model,
            "parallel": chosen.parallel,
            "train": recipe.train.model_copy(update=spending),
        }
    )


def seconds_of(artifact: Artifact) -> float:
    """Seconds in which an artifact was made, curation's documents and scores included."""
    beside = (artifact.path.with_name(f"{artifact.path.name}-{part}") for part in ("documents", "quality"))
    made = [read_manifest(path).seconds for path in beside if (path / MANIFEST).is_file()]
    return artifact.manifest.seconds + sum(made)


def branch_of(recipe: Recipe, directory: Path, tokens: Artifact, at: str, cooldown: int | None) -> Artifact:
    """The train artifact of a branch, measured against the prediction for its trunk."""
    from megalith.training import branch_at, train

    found = branch_at(recipe, directory, at, tokens, cooldown)
    return train(
        found.recipe,
        directory / found.name,
        tokens,
        peak_flops_per_second=found.task.peak_flops_per_second,
        predicted=found.task.predicted,
        corpus=_corpus_in(directory),
        trunk=found.trunk,
        relayout=_relayout,
    )


@dataclass(frozen=True)
class _Place:
    recipe: Recipe
    directory: Path
    sources: Sequence[Path]
    made: Mapping[str, Artifact]
    other_model: Path | None = None

    @property
    def model(self) -> Path:
        """The directory or the address of the model that is judged."""
        return self.other_model or self.made["train"].path / "model"

    def judged(self, stage: str) -> Path:
        """The place for what is found of that model: beside the run's own, for another one."""
        if self.other_model is None:
            return self.directory / stage
        parts = [part for part in self.other_model.parts if part not in ("model", "train")]
        return self.directory / f"{stage}-{parts[-1] if parts else 'model'}"


def _crawl(place: _Place) -> Artifact:
    from megalith.curation import crawl

    return crawl(place.recipe, place.directory / "crawl")


def _curate(place: _Place) -> Artifact:
    from megalith.curation import curate

    sources = place.sources or [place.made["crawl"].path]
    return curate(place.recipe, place.directory / "curate", sources, open_embedder=_open_embedder)


def _open_embedder(path: Path) -> "Embedder":
    from megalith.interop.embedder import open_embedder

    return open_embedder(path)


def _tokenize(place: _Place) -> Artifact:
    from megalith.tokens import take_shards, tokenize

    if place.recipe.tokens.sources:
        return take_shards(place.recipe, place.directory / "tokenize")
    return tokenize(place.recipe, place.directory / "tokenize", place.made["curate"])


def _plan(place: _Place) -> Artifact:
    from megalith.planning.plan import plan

    return plan(place.recipe, place.directory / "plan", place.made.get("tokenize"))


def _train(place: _Place) -> Artifact:
    from megalith.training import train

    path, tokens, corpus = place.directory / "train", place.made["tokenize"], _corpus_in(place.directory)
    plan = place.made.get("plan")
    if plan is None:  # under a launcher, without a plan: the recipe has to say everything, and training checks that
        return train(
            place.recipe, path, tokens, peak_flops_per_second=None, predicted={}, corpus=corpus, relayout=_relayout
        )
    return train(
        resolved_recipe(place.recipe, plan),
        path,
        tokens,
        peak_flops_per_second=plan.facts["machine"]["peak_flops_per_second"],
        predicted={key: plan.facts[key] for key in ("step_seconds", "memory_bytes")},
        corpus=corpus,
        relayout=_relayout,
    )


def _relayout(recipe: Recipe, most: int, least: int) -> Recipe | None:
    from megalith.planning.search.fewer import best_with

    return best_with(recipe, most, least)


def _corpus_in(directory: Path) -> Path | None:
    """The curate artifact, if it stands."""
    return directory / "curate" if (directory / "curate" / MANIFEST).is_file() else None


def _evaluate(place: _Place) -> Artifact:
    from megalith.evaluation import evaluate

    tokens, corpus = place.made.get("tokenize"), place.made.get("curate")
    return evaluate(place.recipe, place.judged("evaluate"), place.model, tokens, corpus)


def _audit(place: _Place) -> Artifact:
    from megalith.audit import audit

    return audit(place.recipe, place.judged("audit"), place.model)


_CALLS: Mapping[str, Callable[[_Place], Artifact]] = {
    "crawl": _crawl,
    "curate": _curate,
    "tokenize": _tokenize,
    "plan": _plan,
    "train": _train,
    "evaluate": _evaluate,
    "audit": _audit,
}
