"""The state of a run: made anew or loaded from the newest checkpoint, and saved."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from megalith.errors import MegalithError
from megalith.parallel import DistributedModel, Mesh, Optimizer, build_mesh, compute_dtype, parallelize
from megalith.recipe import TrainConfig
from megalith.training import checkpoint
from megalith.training.ahead import Ahead
from megalith.training.checkpoint import Progress
from megalith.training.data import Samples, training_samples, validation_samples
from megalith.training.device import is_compiled
from megalith.training.initial_weights import open_weights
from megalith.training.loss_scale import LossScale, loss_scale
from megalith.training.mirroring import mirroring
from megalith.training.profiling import PhaseClock
from megalith.training.slow_ranks import Pace, SlowRanks
from megalith.training.task import TrainTask


@dataclass(frozen=True)
class GoBack:
    """The run is to go on from its last sound checkpoint."""

    first_sample: int | None
    """The sample from which the data go on; None where they are read again."""
    otherwise: MegalithError | None = None
    """The error where there is no such checkpoint; None where the run may go on as it is."""


@dataclass
class Run:
    """One rank's part of a run."""

    task: TrainTask
    model: DistributedModel
    optimizer: Optimizer
    scale: LossScale
    progress: Progress
    samples: Samples
    held_out: Samples
    held_out_count: int
    saver: checkpoint.Saver
    mirroring: checkpoint.Mirroring | None = None
    clock: PhaseClock = field(default_factory=PhaseClock)
    pace: Pace | None = None
    """Measures the time between collectives; None of a process that is alone."""
    slow: SlowRanks = field(default_factory=SlowRanks)
    failed_saves: int = 0
    """In a row."""
    back: GoBack | None = None
    """Asked for by the last step."""
    ahead: Ahead | None = None
    """Reads the samples of the next step; without it they are read when they are wanted."""
    asked_to_stop: Callable[[], bool] = lambda: False
    """Asked once a step."""
    stop: bool = False
    """Whether it said yes on any rank in the last step."""

    @property
    def ranks(self) -> Mesh:
        return self.model.ranks

    @property
    def train(self) -> TrainConfig:
        return self.task.recipe.train

    @property
    def micro_batch_size(self) -> int:
        return self.train.micro_batch_size or 1


def begin(task: TrainTask, ranks: Mesh) -> Run:
    """The state of the newest checkpoint, or the state before the first step. Every rank calls it."""
    recipe = task.recipe
    found = checkpoint.newest(task.checkpoints, task.run, dist.group.WORLD) or _trunk(task)
    model = parallelize(
        recipe.model,
        recipe.parallel,
        build_mesh(ranks, recipe.parallel),
        dtype=compute_dtype(recipe.train.precision),
        seed=recipe.seed if found is None else None,
        weights=open_weights(recipe) if found is None else None,
        compile_layers=is_compiled(recipe, ranks.device),
        z_loss=recipe.train.z_loss,
    )
    held_out, count = validation_samples(task)
    copies = mirroring(recipe.train.mirror if ranks.is_rank_zero else None)
    run = Run(
        task=task,
        model=model,
        optimizer=Optimizer(model.masters, recipe.train),
        scale=loss_scale(recipe.train.precision),
        progress=Progress(run=task.run),
        samples=training_samples(task),
        held_out=held_out,
        held_out_count=count,
        saver=checkpoint.Saver(task.checkpoints, stands=copies),
        mirroring=copies,
    )
    if ranks.count > 1:
        run.pace = Pace(model, run.clock, compiled=is_compiled(recipe, ranks.device))
    if found is not None:
        restore(run, found)
        if task.event is not None:
            run.progress.events = [*run.progress.events, {"step": run.progress.step, **task.event}]
    elif recipe.train.from_optimizer and recipe.train.weights_from is not None:
        origin = checkpoint.open_step(Path(recipe.train.weights_from))
        checkpoint.load(origin, {}, run.optimizer.state(), dist.group.WORLD)
        run.optimizer.steps = origin.extras["optimizer_steps"]
    return run


def restore(run: Run, found: checkpoint.Found) -> None:
    """Put the run into the state of a checkpoint. Every rank calls it."""
    run.progress = found.progress
    checkpoint.load(found, _weights(run.model), run.optimizer.state(), dist.group.WORLD)
    run.optimizer.steps = found.extras["optimizer_steps"]
    scale = LossScale(**found.extras["loss_scale"])
    if scale.grows == run.scale.grows:  # else a branch has another precision
        run.scale = scale
    run.model.copy_master_weights()
    run.saver.forget_history()


def _trunk(task: TrainTask) -> checkpoint.Found | None:
    """The trunk's checkpoint, as the first state of a branch; None where the task is not one."""
    trunk = task.trunk
    if trunk is None:
        return None
    found = checkpoint.open_together(trunk.checkpoint, trunk.run, dist.group.WORLD)
    event = {
        "step": trunk.step,
        "event": "branch",
        "trunk": trunk.run,
        "changes": {key: list(values) for key, values in trunk.changes.items()},
    }
    events = [*found.progress.events, event]
    progress = found.progress.model_copy(update={"run": task.run, "skipped_in_a_row": 0, "events": events})
    return replace(found, progress=progress)


def save(run: Run, keep: int) -> None:
    """Begin to write a checkpoint of this moment; when it stands, the newest `keep` are left, and milestones."""
    extras = {"optimizer_steps": run.optimizer.steps, "loss_scale": asdict(run.scale)}
    state = checkpoint.State(run.progress, _weights(run.model), run.optimizer.state(), extras)
    run.saver.save(state, keep, milestones=run.train.milestones, best=run.train.keep_best)


def _weights(model: DistributedModel) -> dict[str, Tensor]:
    return {master.name: master.as_dtensor(master.value) for master in model.masters}
