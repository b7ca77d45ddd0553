"""The expedition: the stages in order, each skipped where it stands, and what came of them in one file."""

import contextlib
import os
from collections.abc import Mapping, Sequence
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
    sealed,
    set_aside,
    sweep,
)
from megalith.console import human_seconds, note
from megalith.errors import InputError, UnsupportedError
from megalith.input_files import read_json
from megalith.locking import lock
from megalith.recipe import Recipe
from megalith.secrets import masked
from megalith.stages import NEEDS, STAGES, USES, branch_of, resolved_recipe, run_one, seconds_of, stages_of

if TYPE_CHECKING:
    from megalith.submission import Submission


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
            made[stage] = run_one(stage, recipe, directory, given, made, f"{number}/{len(walked)}")
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
        plan = run_one("plan", recipe, directory, given, {}, "plan")
        cluster, layout = plan.facts["machine"], plan.facts["layout"]
        note(f"{'':5}  {plan.facts['steps']:,} steps will take about {human_seconds(plan.facts['seconds'])} there")
        spread = f"tensor {layout['tensor']} × pipeline {layout['pipeline']} × data {layout['data']}"
        spread += f" × context {layout['context']}" if layout["context"] > 1 else ""
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
    if recipe.curate.semantic.model:
        from megalith.curation.embeddings import semantic_model
        from megalith.interop.embedder import open_embedder

        semantic_model(recipe.curate.semantic, open_embedder)
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
        for earlier in (*NEEDS[stage], *USES[stage]):
            if earlier not in walked:
                continue
            needed = earlier in NEEDS[stage] and not (earlier == "train" and model)
            if needed and earlier == "tokenize" and recipe.tokens.sources and not follows:
                made[earlier] = run_one(earlier, recipe, directory, given, made, earlier)  # as the shards are now
            elif needed or (directory / earlier / MANIFEST).is_file():
                made[earlier] = open_artifact(directory / earlier, earlier, check=not follows)
        if branch is not None:
            return branch_of(recipe, directory, made["tokenize"], branch, cooldown)
        if stage == "train" and not started_by_launcher:  # there, all ranks would measure the machine at once
            made["plan"] = run_one("plan", recipe, directory, given, made, "plan")
            _tell_plan(recipe, made["plan"], yes=yes or _has_begun(directory))
        elif stage == "train" and (directory / "plan" / MANIFEST).is_file():
            made["plan"] = open_artifact(directory / "plan", "plan", check=not follows)
        return run_one(stage, recipe, directory, given, made, stage, model)


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
                "seconds": seconds_of(artifact),
                "peak_memory_bytes": artifact.manifest.peak_memory_bytes,
                "reused": artifact.reused,
            }
            for stage, artifact in made.items()
        ],
        "versions": made["train"].manifest.versions,
        "seconds": round(sum(seconds_of(artifact) for artifact in made.values()), 3),
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
