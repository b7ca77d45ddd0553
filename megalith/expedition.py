"""The expedition: the stages in order, each skipped where it stands, and what came of them in one file.

The only module that knows every stage, beside `cli.py`. Stages meet on disk: what one leaves, the next is handed.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megalith import __version__
from megalith.artifacts import (
    EXPEDITION,
    MANIFEST,
    Artifact,
    Workspace,
    check_seal,
    open_artifact,
    read_manifest,
    sealed,
    set_aside,
    sweep,
)
from megalith.console import human_seconds, note
from megalith.errors import InputError, UnsupportedError
from megalith.input_files import read_json, read_model
from megalith.locking import lock
from megalith.recipe import Recipe
from megalith.secrets import masked

if TYPE_CHECKING:
    from megalith.submission import Submission

STAGES = ("crawl", "curate", "tokenize", "plan", "train", "evaluate", "audit")


def run(
    recipe: Recipe, directory: Path, sources: Sequence[Path] = (), *, fresh: bool = False, yes: bool = False
) -> dict[str, Any]:
    """Walk the whole expedition in `directory` and return the content of `expedition.json`.

    `sources` replaces the crawl (and what `curate` names). Finished stages are skipped, a broken one resumes. A model,
    or what took longer than a minute, that was made of other settings or inputs is refused, unless `fresh`: then it is
    set aside (`train.aside-1`) and made anew. A training that would take longer than a day on this machine is begun
    with `yes` alone, or with budget.hours. Raises MegalithError; then nothing half-written is left behind.
    """
    from megalith.report import write_audit, write_evaluation, write_report

    _refuse_many("run")
    given = [Path(source) for source in (sources or recipe.curate.paths)]
    yes = yes or _has_begun(directory)
    check(recipe, given, yes=yes)
    walked = stages_of(recipe, given)
    with lock(directory), set_aside(fresh):
        sweep(directory)
        made: dict[str, Artifact] = {}
        for number, stage in enumerate(walked, start=1):
            made[stage] = _stage(stage, recipe, directory, given, made, f"{number}/{len(walked)}")
            if stage == "plan":
                _tell_plan(recipe, made[stage], yes=yes)
        expedition = sealed(_tell(recipe, given, made))
        Workspace(directory).write_json(EXPEDITION, expedition)
        write_report(directory)
        write_evaluation(made["evaluate"].path)
        write_audit(made["audit"].path)
    return expedition


def is_for_a_cluster(recipe: Recipe, directory: Path) -> bool:
    """Whether the next step is the cluster's: its machines are others than this one, and nothing is trained yet."""
    from megalith.planning.cluster_plan import is_elsewhere

    return not (directory / "train" / MANIFEST).is_file() and is_elsewhere(recipe)


def submit(recipe: Recipe, directory: Path, sources: Sequence[Path] = (), *, fresh: bool = False) -> "Submission":
    """Plan the run for its cluster, and write the jobs that walk it there into `directory`/job.

    What was planned or made before is kept. `sources` and `fresh` are as for `run`. Raises MegalithError for a run that
    would be refused there.
    """
    from megalith.submission import Walk, write_jobs
    from megalith.submission.job_files import recipe_file

    _refuse_many("run")
    given = [Path(source) for source in (sources or recipe.curate.paths)]
    check(recipe, given)
    walked = stages_of(recipe, given)
    with lock(directory), set_aside(fresh):
        sweep(directory)
        if "crawl" in walked:
            note("the recipe names no source: as in the quickstart, the jobs crawl the node's Python documentation; "
                 "--source, curate.sources or tokens.from names yours")  # fmt: skip
        plan = _stage("plan", recipe, directory, given, {}, "plan")
        cluster, layout = plan.facts["machine"], plan.facts["layout"]
        note(f"{'':5}  {plan.facts['steps']:,} steps will take about {human_seconds(plan.facts['seconds'])} there")
        spread = f"tensor {layout['tensor']} × pipeline {layout['pipeline']} × data {layout['data']}"
        return write_jobs(
            recipe,
            Walk(
                name=recipe.name,
                recipe=recipe_file(directory).absolute(),
                directory=directory.absolute(),
                working_directory=Path.cwd(),
                stages=walked[: walked.index("plan")],
                nodes=cluster["nodes"],
                accelerators_per_node=cluster["accelerators"]["count"] // cluster["nodes"],
                accelerator=cluster["accelerators"]["name"],
                layout=spread,
                parameters=plan.facts["parameters"],
                step_seconds=plan.facts["step_seconds"],
                sources=[str(source) for source in sources],
            ),
            plan.facts,
        )


def _refuse_many(verb: str) -> None:
    """Raise UnsupportedError in one of several processes that a launcher has started."""
    from megalith.training.slurm import launched_by_slurm

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or launched_by_slurm(os.environ):
        raise UnsupportedError(
            f"`megalith {verb}` is one process, and several have been started.",
            mend="Start `megalith train` with srun or torchrun; `megalith run` writes the jobs that do.",
        )


def stages_of(recipe: Recipe, sources: Sequence[Path]) -> list[str]:
    """The stages of an expedition, in order: sources take the place of the crawl, shards that of a corpus."""
    left_out = {"crawl", "curate"} if recipe.tokens.sources else {"crawl"} if sources else set()
    return [stage for stage in STAGES if stage not in left_out]


def check(recipe: Recipe, sources: Sequence[Path], *, yes: bool = False) -> None:
    """Raise the error that a later stage would end with, as far as it can be known before anything is made."""
    from megalith.curation.corpus.read_units import datasets_of
    from megalith.evaluation.chosen import chosen_tasks
    from megalith.planning.plan import check as check_plan
    from megalith.tokens.tokenize import check_tokenizer
    from megalith.training import refuse_what_cannot_be_trained

    _refuse_both(recipe, sources)
    datasets_of(sources, recipe.curate)
    if recipe.model.family == "bert":
        raise UnsupportedError(
            "an expedition ends in tasks for a model that writes, and a BERT model does not.",
            where="model.family",
            mend="Use `megalith curate`, `megalith tokenize` and `megalith train`, which make a BERT model.",
        )
    check_tokenizer(recipe)
    refuse_what_cannot_be_trained(recipe)
    chosen_tasks(recipe.evaluate, None)
    check_plan(recipe, yes=yes)


def _refuse_both(recipe: Recipe, sources: Sequence[Path]) -> None:
    if recipe.tokens.sources and sources:
        raise InputError(
            "a source is curated, and tokens.from names shards that stand already.",
            where=str(sources[0]),
            mend="Remove --source, or tokens.from.",
        )


def run_stage(
    stage: str,
    recipe: Recipe,
    directory: Path,
    sources: Sequence[Path] = (),
    *,
    fresh: bool = False,
    yes: bool = False,
    model: Path | None = None,
    branch: str | None = None,
    cooldown: int | None = None,
) -> Artifact:
    """One stage alone, on what the stages before it left in `directory`. Raises InputError where they have not run.

    `evaluate` and `audit` may take another `model`, also behind an address; they then leave `evaluate-NAME`.

    `train` plans first, and wants `yes` where `run` does. Started by torchrun or srun it takes the plan that stands, or
    else a recipe that leaves nothing open. With `branch`, a step or a checkpoint's directory, it goes on from there in
    a directory of its own, with a `cooldown` for so many tokens; nothing is planned. `fresh` is as for `run`.
    """
    if stage not in STAGES:
        raise InputError(f"{stage!r} is not a stage.", mend=f"Use {', '.join(STAGES[:-1])} or {STAGES[-1]}.")
    given = [Path(source) for source in (sources or recipe.curate.paths)]
    _refuse_both(recipe, given)
    walked = stages_of(recipe, given)
    if stage == "train":
        from megalith.training import take_up_slurm

        take_up_slurm()
        _refuse_without_ranks(recipe, directory)
    started_by_launcher = "RANK" in os.environ
    follows = started_by_launcher and os.environ["RANK"] != "0"
    with contextlib.nullcontext() if follows else lock(directory), set_aside(fresh):
        made: dict[str, Artifact] = {}
        if not follows:
            sweep(directory)
        for earlier in (*_NEEDS[stage], *_USES[stage]):
            if earlier not in walked:
                continue
            needed = earlier in _NEEDS[stage] and not (earlier == "train" and model)
            if needed and earlier == "tokenize" and recipe.tokens.sources and not follows:
                made[earlier] = _stage(earlier, recipe, directory, given, made, earlier)  # as the shards are now
            elif needed or (directory / earlier / MANIFEST).is_file():
                made[earlier] = open_artifact(directory / earlier, earlier, check=not follows)
        if branch is not None:
            return _branch(recipe, directory, made["tokenize"], branch, cooldown)
        if stage == "train" and not started_by_launcher:  # there, all ranks would measure the machine at once
            made["plan"] = _stage("plan", recipe, directory, given, made, "plan")
            _tell_plan(recipe, made["plan"], yes=yes or _has_begun(directory))
        elif stage == "train" and (directory / "plan" / MANIFEST).is_file():
            made["plan"] = open_artifact(directory / "plan", "plan", check=not follows)
        return _stage(stage, recipe, directory, given, made, stage, model)


def _refuse_without_ranks(recipe: Recipe, directory: Path) -> None:
    """Raise UnsupportedError where a cluster's ranks are to train, and nobody has started any."""
    if "RANK" in os.environ or "SLURM_STEP_ID" in os.environ or not is_for_a_cluster(recipe, directory):
        return
    raise UnsupportedError(
        f"the recipe is for {recipe.cluster.nodes} nodes of {recipe.cluster.name}, this machine is none of them, and "
        "no launcher has started its ranks.",
        where="cluster.name",
        mend="Use `megalith run`, which plans it and writes its Slurm and Kubernetes jobs; or cluster=local to train "
        "here.",
    )


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


def _has_begun(directory: Path) -> bool:
    """True where training stands in `directory`, or has been begun there."""
    return any((directory / name).exists() for name in ("train", ".train.partial"))


def _tell_plan(recipe: Recipe, plan: Artifact, *, yes: bool) -> None:
    """Say how long training will take, beside what was asked; raise ResourceError where that is unreasonably long."""
    from megalith.planning.plan import refuse_unasked_length

    steps, seconds, hours = plan.facts["steps"], plan.facts["seconds"], recipe.budget.hours
    asked = f", of {human_seconds(3600 * hours)} asked for" if hours is not None else ""
    note(f"{'':5}  {steps:,} steps will take about {human_seconds(seconds)}{asked}")
    if not yes and "cluster" not in plan.facts["machine"]:  # whose user has said so by submitting the job
        refuse_unasked_length(recipe, seconds)


_NEEDS: Mapping[str, tuple[str, ...]] = {
    "crawl": (),
    "curate": ("crawl",),
    "tokenize": ("curate",),
    "plan": (),
    "train": ("tokenize",),
    "evaluate": ("train",),
    "audit": ("train",),
}
_USES: Mapping[str, tuple[str, ...]] = {
    "crawl": (),
    "curate": (),
    "tokenize": (),
    "plan": ("tokenize",),
    "train": (),
    "evaluate": ("curate", "tokenize"),
    "audit": (),
}
"""Artifacts that a stage reads where they stand, beside those that it needs."""


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


def _seconds(artifact: Artifact) -> float:
    """Seconds in which an artifact was made, curation's documents and scores included."""
    beside = (artifact.path.with_name(f"{artifact.path.name}-{part}") for part in ("documents", "quality"))
    made = [read_manifest(path).seconds for path in beside if (path / MANIFEST).is_file()]
    return artifact.manifest.seconds + sum(made)


def _stage(
    stage: str,
    recipe: Recipe,
    directory: Path,
    sources: Sequence[Path],
    made: Mapping[str, Artifact],
    heading: str,
    model: Path | None = None,
) -> Artifact:
    begun = time.monotonic()
    artifact = _CALLS[stage](_Place(recipe, directory, sources, made, model))
    how = "stands already" if artifact.reused else f"took {human_seconds(time.monotonic() - begun)}"
    if os.environ.get("RANK", "0") == "0":  # one of those that a launcher has started speaks
        note(f"{heading:>5}  {stage:<9} {how:<16} {artifact.path}")
    return artifact


def _crawl(place: _Place) -> Artifact:
    from megalith.curation import crawl

    return crawl(place.recipe, place.directory / "crawl")


def _curate(place: _Place) -> Artifact:
    from megalith.curation import curate

    return curate(place.recipe, place.directory / "curate", place.sources or [place.made["crawl"].path])


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


def _branch(recipe: Recipe, directory: Path, tokens: Artifact, at: str, cooldown: int | None) -> Artifact:
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


def _tell(recipe: Recipe, sources: Sequence[Path], made: Mapping[str, Artifact]) -> dict[str, Any]:
    """Every figure of the report."""
    facts = {stage: artifact.facts for stage, artifact in made.items()}
    samples = made["evaluate"].path / "samples.json"
    return {
        "megalith": __version__,
        "name": recipe.name,
        "about": recipe.about,
        "seed": recipe.seed,
        "recipe": masked(resolved_recipe(recipe, made["plan"]).model_dump(mode="json")),
        "sources": [masked(str(source)) for source in sources],
        "crawl": facts.get("crawl"),
        "curation": facts.get("curate"),
        "tokens": {**facts["tokenize"], **facts["tokenize"]["tokens"]},
        "plan": facts["plan"],
        "train": facts["train"],
        "evaluate": facts["evaluate"],
        "audit": facts["audit"],
        "samples": read_json(samples) if samples.is_file() else [],
        "artifacts": [
            {
                "stage": stage,
                "path": artifact.path.name,
                "digest": artifact.digest,
                "seconds": _seconds(artifact),
                "peak_memory_bytes": artifact.manifest.peak_memory_bytes,
                "reused": artifact.reused,
            }
            for stage, artifact in made.items()
        ],
        "versions": made["train"].manifest.versions,
        "seconds": round(sum(_seconds(artifact) for artifact in made.values()), 3),
        "peak_memory_bytes": max(artifact.manifest.peak_memory_bytes for artifact in made.values()),
    }


def read_expedition(directory: Path) -> dict[str, Any]:
    """The content of a finished expedition's `expedition.json`. Raises InputError where it is missing or damaged."""
    path = directory / EXPEDITION
    if not path.is_file():
        raise InputError(
            "a finished expedition is missing here.",
            where=str(directory),
            mend="Run `megalith run`: it takes what stands and writes the log.",
        )
    read = read_json(path, mend="Run `megalith run` again: it takes what stands and writes this file.")
    if not isinstance(read, dict):
        raise InputError("this does not tell of an expedition.", where=str(path), mend="Run `megalith run` again.")
    check_seal(read, path, mend="Run `megalith run` again: it takes what stands and writes this file.")
    return read
