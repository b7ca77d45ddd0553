"""The whole walk, and each of its stages alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from megalith.artifacts import Artifact
from megalith.errors import InputError
from megalith.recipe import Overrides, Recipe, load_recipe
from megalith.verbs.arguments import Place, Places, RecipeSource, directory_of, load, path, paths

if TYPE_CHECKING:
    from megalith.submission import Submission


@dataclass(frozen=True)
class Expedition:
    """A finished expedition on disk."""

    directory: Path
    figures: Mapping[str, Any]
    """As `expedition.json` holds them: see docs/artifacts.md."""

    @property
    def report(self) -> Path:
        """The page that tells all of it."""
        return self.directory / "report.html"


def run(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    output: Place | None = None,
    fresh: bool = False,
    yes: bool = False,
) -> "Expedition | Submission":
    """The whole expedition: crawl, curate, tokenize, plan, train, evaluate, audit, report.

    `source` (files, directories or addresses of WARC, JSONL, Parquet or text) replaces the crawl. `output` is the
    expedition's directory, runs/NAME by default; what stands there is taken, and a broken expedition is resumed.
    `fresh` sets aside what was made of other settings; `yes` begins a training of more than a day.

    For a cluster that this machine is not, the run is planned and its jobs are written: a Submission, until the cluster
    has trained.
    """
    from megalith import expedition

    loaded = _with_open_layout(recipe, overrides)
    directory = directory_of(loaded, output)
    if expedition.is_for_a_cluster(loaded, directory):
        return expedition.submit(loaded, directory, paths(source), fresh=fresh)
    return Expedition(directory, expedition.run(loaded, directory, paths(source), fresh=fresh, yes=yes))


def read_expedition(recipe: RecipeSource, *, overrides: Overrides = (), output: Place | None = None) -> Expedition:
    """A finished expedition as it stands on disk. Raises InputError where there is none."""
    from megalith import expedition

    directory = directory_of(load(recipe, overrides), output)
    return Expedition(directory, expedition.read_expedition(directory))


def crawl(
    recipe: RecipeSource, *, overrides: Overrides = (), output: Place | None = None, fresh: bool = False
) -> Artifact:
    """Write this machine's own Python documentation as WARC."""
    return _stage("crawl", recipe, overrides, (), output, fresh)


def curate(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    engine: Literal["native", "ray"] = "native",
    ray_address: str | None = None,
    output: Place | None = None,
    fresh: bool = False,
) -> Artifact:
    """WARC, JSONL, Parquet or text to filtered, deduplicated, decontaminated Parquet, with its card.

    `engine` is this machine's cores or a Ray cluster's, at `ray_address` or started here.
    """
    from megalith.curation.engine import use_engine
    from megalith.report import write_card

    use_engine(engine, ray_address)
    made = _stage("curate", recipe, overrides, source, output, fresh)
    write_card(made.path)
    return made


def tokenize(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    output: Place | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train the byte-level BPE and write Megatron .bin/.idx shards."""
    return _stage("tokenize", recipe, overrides, source, output, fresh)


def train(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    output: Place | None = None,
    fresh: bool = False,
    yes: bool = False,
    branch: int | Place | None = None,
    cooldown: int | None = None,
) -> Artifact:
    """Plan, and train the model that the recipe or the plan says.

    `branch` goes on from a step of the run that stands, or from the checkpoint in a directory, with the settings that
    differ now, and leaves train-STEP-… beside it. `cooldown` is a branch of so many tokens in which the rate falls.
    """
    if cooldown is not None and branch is None:
        raise InputError("a cooldown is a branch, and its step is missing.", mend="Pass --branch STEP, too.")
    if branch is None:
        return _stage("train", recipe, overrides, source, output, fresh, yes=yes)
    from megalith import expedition

    loaded = load(recipe, overrides)
    directory = directory_of(loaded, output)
    given = paths(source)
    return expedition.run_stage(
        "train", loaded, directory, given, fresh=fresh, yes=yes, branch=str(branch), cooldown=cooldown
    )


def evaluate(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    model: Place | None = None,
    output: Place | None = None,
    fresh: bool = False,
) -> Artifact:
    """Perplexity and zero- and few-shot tasks, with standard errors.

    Of the expedition's model, or of the one in the directory, or behind the address, `model`.
    """
    made = _stage("evaluate", recipe, overrides, source, output, fresh, model=model)
    if _speaks():
        from megalith.report import write_evaluation

        write_evaluation(made.path)
    return made


def audit_model(
    recipe: RecipeSource,
    *,
    overrides: Overrides = (),
    source: Places = (),
    model: Place | None = None,
    output: Place | None = None,
    fresh: bool = False,
) -> Artifact:
    """Shallow heuristics, sensitivity to the prompt, social bias: the verb `audit`. `model` is as for `evaluate`."""
    made = _stage("audit", recipe, overrides, source, output, fresh, model=model)
    if _speaks():
        from megalith.report import write_audit

        write_audit(made.path)
    return made


def _speaks() -> bool:
    """True in the one process that writes beside the artifact, of those that a launcher has started."""
    return os.environ.get("RANK", "0") == "0"


def _stage(
    stage: str,
    recipe: RecipeSource,
    overrides: Overrides,
    source: Places,
    output: Place | None,
    fresh: bool,
    *,
    yes: bool = False,
    model: Place | None = None,
) -> Artifact:
    from megalith import expedition

    if stage == "train":
        loaded = _with_open_layout(recipe, overrides)
    else:
        loaded = load(recipe, overrides, model=stage not in ("crawl", "curate", "tokenize"))
    return expedition.run_stage(
        stage, loaded, directory_of(loaded, output), paths(source), fresh=fresh, yes=yes, model=path(model)
    )


def _with_open_layout(recipe: RecipeSource, overrides: Overrides) -> Recipe:
    """The recipe, without a layout that its file has for other machines than those that overrides name."""
    from megalith.planning.cluster_plan import with_open_layout

    return with_open_layout(*load_recipe(recipe, overrides))
