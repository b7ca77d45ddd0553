"""`megalith average`: the mean of the weights of several models of ours, such as a run's last checkpoints.

The mean of checkpoints of one run is often better than the last of them, most of all before its rate has fallen
(stochastic weight averaging, 1803.05407). One tensor is in memory at a time; sums are in fp64.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError
from megalith.interop.checkpoint import Checkpoint, open_checkpoint
from megalith.tokens import GENERATION
from megalith.training.checkpoint.files import standing
from megalith.training.checkpoint.tensors import Spec, write_tensors

VERSION = 1


def average(models: Sequence[Path], path: Path, last: int | None = None) -> Artifact:
    """The mean of the models as an artifact at `path`; with `last`, of a run's last checkpoints.

    Raises InputError where one is missing or damaged, or where they differ in shape or tokenizer.
    """
    opened = [open_checkpoint(each) for each in (models if last is None else _last(models, last))]
    if len(opened) < 2:
        raise InputError(
            "a mean wants two models or more.",
            where=str(opened[0].home),
            mend="Pass several checkpoints, or a run and --last K.",
        )
    first = opened[0]
    for other in opened[1:]:
        _refuse_another(first, other)
    specs = {name: Spec(torch.float32, spec.shape) for name, spec in first.specs.items()}

    def mean(name: str) -> Tensor:
        total = torch.zeros(specs[name].shape, dtype=torch.float64)
        for each in opened:
            total += each.tensor(name)
        return (total / len(opened)).float()

    def build(workspace: Workspace) -> Mapping[str, Any]:
        with workspace.file("model/model.safetensors") as file:
            write_tensors(file, specs, mean)
        workspace.write_json("model/config.json", first.config.model_dump(mode="json"))
        with workspace.file("model/tokenizer.json") as file:
            first.tokenizer.save(file)
        workspace.write_json(f"model/{GENERATION}", first.tokenizer.conventions.model_dump(mode="json"))
        steps = [each.step for each in opened]
        return {"models": len(opened), "steps": steps, "parameters": parameters(first.config).total}

    return produce(
        path,
        stage="average",
        settings={"version": VERSION},
        inputs={f"model-{number}": each.digest for number, each in enumerate(opened)},
        seed=0,
        build=build,
        precious=True,
    )


def _last(models: Sequence[Path], count: int) -> list[Path]:
    """The last checkpoints of a run, oldest first."""
    if len(models) != 1:
        raise InputError(f"{len(models)} models are named, and --last is of one run.", mend="Pass the run alone.")
    (run,) = models
    folder = run / "checkpoints"
    found = [folder / str(name) for name in standing(folder) if not name.is_replaced]
    if len(found) < count:
        raise InputError(
            f"{len(found)} checkpoints stand, and the last {count} are asked for.",
            where=str(folder),
            mend="Set a smaller --last; train.milestones and train.checkpoints_kept keep more for the next run.",
        )
    return found[:count][::-1]


def _refuse_another(first: Checkpoint, other: Checkpoint) -> None:
    shapes = [{name: spec.shape for name, spec in each.specs.items()} for each in (first, other)]
    configs = [each.config.model_copy(update={"dropout": 0.0}) for each in (first, other)]
    if shapes[0] != shapes[1] or configs[0] != configs[1]:
        raise InputError(f"{other.name} has another shape than {first.name}.", where=str(other.home))
    if first.tokenizer.to_json() != other.tokenizer.to_json():
        raise InputError(f"{other.name} has another tokenizer than {first.name}.", where=str(other.home))
