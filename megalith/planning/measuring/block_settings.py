"""Under which settings a layout's blocks are to be measured: what `measure` asks for is what `compose` looks up."""

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from megalith.errors import UnsupportedError
from megalith.job import Job, Recompute
from megalith.precision import Precision
from megalith.recipe import ModelConfig, ParallelConfig

TOY = ModelConfig(num_layers=2, hidden_size=64, num_heads=2, sequence_length=32, vocab_size=256)
"""The model of the toy pipeline that times the pipeline's runner."""


class Setting(BaseModel):
    """How a block is split, and what else runs beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tensor: int
    data: int
    """Ranks over which ZeRO shards the block; 1 without ZeRO."""
    zero: int
    zero_shard: int | None
    sequence_parallel: bool
    recompute: Recompute
    recompute_every: int
    precision: Precision
    micro_batch_size: int
    threads: int
    """Threads of each process."""
    processes: int
    """At work at the same time, in groups of tensor · data that know nothing of each other."""

    @property
    def parallel(self) -> ParallelConfig:
        """The group's own layout."""
        axes = {"tensor", "data", "zero", "zero_shard", "sequence_parallel", "recompute", "recompute_every"}
        return ParallelConfig.model_validate({**self.model_dump(include=axes), "pipeline": 1})


def settings_of(job: Job, cores: int) -> list[Setting]:
    """The job's blocks by how many of its pipeline's ranks are at work at once: entry k − 1 where k are.

    Raises UnsupportedError for what is not composed of blocks.
    """
    _refuse(job)
    layout = job.layout
    return [
        Setting(
            tensor=layout.tensor,
            data=layout.data if job.zero else 1,
            zero=job.zero,
            zero_shard=job.zero_shard,
            sequence_parallel=job.sequence_parallel,
            recompute=job.recompute,
            recompute_every=job.recompute_every,
            precision=job.precision,
            micro_batch_size=job.micro_batch_size,
            threads=max(1, cores // layout.world),
            processes=active * layout.data * layout.tensor,
        )
        for active in range(1, layout.pipeline + 1)
    ]


def all_settings(job: Job, cores: int) -> Iterator[Setting]:
    """Everything that is looked up for the job: ZeRO-1 takes all micro-batches but the last without reducing."""
    for setting in settings_of(job, cores):
        yield setting
        if job.zero == 1:
            yield without_zero(setting)


def without_zero(setting: Setting) -> Setting:
    """The same block whole on each rank."""
    return setting.model_copy(update={"data": 1, "zero": 0, "zero_shard": None})


def _refuse(job: Job) -> None:
    if job.zero and job.layout.pipeline > 1:
        what, where = "ZeRO within a pipeline", "parallel.zero"
    elif job.layout.context > 1:
        what, where = "context parallelism", "parallel.context"
    elif job.model.family != "gpt":
        what, where = f"a {job.model.family}", "model.family"
    else:
        return
    raise UnsupportedError(
        f"the step of {what} is not composed of measured blocks.",
        where=where,
        mend="`megalith plan layout` measures it whole.",
    )
