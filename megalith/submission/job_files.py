"""The files of a run's jobs, beside its plan."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.recipe import Recipe
from megalith.recipe.loading import dump
from megalith.secrets import masked
from megalith.submission.kubernetes import manifests
from megalith.submission.slurm import scripts
from megalith.submission.walk import Walk

JOB, RECIPE = "job", "recipe.json"


@dataclass(frozen=True)
class Submission:
    """A planned run that waits for its cluster."""

    directory: Path
    job: Path
    """The folder of the scripts."""
    figures: Mapping[str, Any]
    """Facts of the plan."""
    commands: Mapping[str, str]
    """The command that submits it, by scheduler: `slurm` or `kubernetes`."""


def recipe_file(directory: Path) -> Path:
    """The place of the recipe that the jobs read."""
    return directory / JOB / RECIPE


def write_jobs(recipe: Recipe, walk: Walk, figures: Mapping[str, Any]) -> Submission:
    """Write recipe, scripts and manifests; what stood there is replaced.

    Raises InputError for a recipe with a secret in it, which would stand in a file that others may read.
    """
    values = {**dump(recipe), "parallel": recipe.parallel.model_dump(mode="json", exclude_unset=True)}
    for told in (values, list(walk.sources)):
        if masked(told) != told:
            raise InputError(
                "an address holds a name, a key or a signature, which the job's files would show.",
                where="recipe",
                mend="Leave it out: jobs take credentials from their environment.",
            )
    folder = walk.recipe.parent
    folder.mkdir(parents=True, exist_ok=True)
    files = scripts(walk) | manifests(walk) | {RECIPE: json.dumps(values, indent=1) + "\n"}
    for name, text in files.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755 if name.endswith((".sh", ".sbatch")) else 0o644)
    submit = {"slurm": "submit.sh", "kubernetes": "submit-kubernetes.sh"}
    commands = {scheduler: shlex.join(["bash", str(folder / name)]) for scheduler, name in submit.items()}
    return Submission(walk.directory, folder, figures, commands)
