"""All that lives while a model is trained: made anew, or found in the newest checkpoint, and saved."""

from dataclasses import asdict, dataclass, field

import torch.distributed as dist
from torch import Tensor

from megalith.parallel import Optimizer, Ranks, SpreadModel, arrange, compute_dtype, spread
from megalith.recipe import TrainConfig
from megalith.training import checkpoint
from megalith.training.checkpoint import Progress
from megalith.training.clock import Clock
from megalith.training.job import Job
from megalith.training.precision import LossScale, loss_scale
from megalith.training.samples import Samples, training_samples, validation_samples


@dataclass
class Run:
    """One rank's part of a run."""

    job: Job
    model: SpreadModel
    optimizer: Optimizer
    scale: LossScale
    progress: Progress
    samples: Samples
    held_out: Samples
    held_out_count: int
    saver: checkpoint.Saver
    clock: Clock = field(default_factory=Clock)

    @property
    def ranks(self) -> Ranks:
        return self.model.ranks

    @property
    def train(self) -> TrainConfig:
        return self.job.recipe.train

    @property
    def micro_batch_size(self) -> int:
        return self.train.micro_batch_size or 1


def begin(job: Job, ranks: Ranks) -> Run:
    """The state of the newest checkpoint, or the state before the first step. Every rank calls it."""
    recipe = job.recipe
    found = checkpoint.newest(job.checkpoints, job.run, dist.group.WORLD)
    model = spread(
        recipe.model,
        recipe.parallel,
        arrange(ranks, recipe.parallel),
        dtype=compute_dtype(recipe.train.precision),
        seed=recipe.seed if found is None else None,
        compile_layers=recipe.train.compile,
    )
    optimizer, scale = Optimizer(model.masters, recipe.train), loss_scale(recipe.train.precision)
    progress = Progress(run=job.run)
    if found is not None:
        progress = found.progress
        checkpoint.load(found, _weights(model), optimizer.state(), dist.group.WORLD)
        optimizer.steps = found.extras["optimizer_steps"]
        scale = LossScale(**found.extras["loss_scale"])
        model.publish()
    held_out, count = validation_samples(job)
    saver = checkpoint.Saver(job.checkpoints)
    return Run(job, model, optimizer, scale, progress, training_samples(job), held_out, count, saver)


def save(run: Run, keep: int) -> None:
    """Begin to write a checkpoint of this moment; when it stands, the newest `keep` are left."""
    extras = {"optimizer_steps": run.optimizer.steps, "loss_scale": asdict(run.scale)}
    run.saver.save(checkpoint.State(run.progress, _weights(run.model), run.optimizer.state(), extras), keep)


def _weights(model: SpreadModel) -> dict[str, Tensor]:
    return {master.name: master.logical(master.value) for master in model.masters}
