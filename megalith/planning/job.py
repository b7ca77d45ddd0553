"""One training job, with nothing left open: what the cost model and the memory model are asked about."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from megalith.batches import micro_batches
from megalith.precision import Precision
from megalith.recipe import ModelConfig, ParallelConfig, Recipe
from megalith.topology import Cluster, Layout

Recompute = Literal["none", "selective", "full"]
Zero = Literal[0, 1, 2, 3]
ZERO_STAGES: tuple[Zero, ...] = get_args(Zero)
Schedule = Literal["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2"]


@dataclass(frozen=True)
class Job:
    """A model, a batch, and how both are spread over a cluster; the names are the recipe's."""

    model: ModelConfig
    cluster: Cluster
    layout: Layout
    micro_batch_size: int
    global_batch_size: int
    """Sequences of one optimizer step, of all ranks together."""
    virtual_stages: int = 1
    schedule: Schedule = "1f1b"
    recompute: Recompute = "none"
    recompute_every: int = 1
    sequence_parallel: bool = False
    zero: Zero = 0
    zero_shard: int | None = None
    context: int = 1
    """Ranks that share the tokens of a sequence; published runs have it, recipes do not."""
    precision: Precision = "bf16"
    fused_attention: bool = True
    """Whether scores stay on the chip (FlashAttention, 2205.14135)."""
    stack: str = "megalith"
    """The software that runs it: what differs between stacks is among the constants."""

    @classmethod
    def of(cls, recipe: Recipe, cluster: Cluster) -> "Job":
        """A sized recipe's step on a cluster: what it leaves open of its layout and its micro-batch is taken for 1."""
        parallel, train = recipe.parallel, recipe.train
        return cls(
            model=recipe.model,
            cluster=cluster,
            layout=Layout(parallel.tensor or 1, parallel.pipeline or 1, parallel.data or 1),
            micro_batch_size=train.micro_batch_size or 1,
            global_batch_size=train.global_batch_size,
            virtual_stages=parallel.virtual_stages,
            schedule=parallel.schedule,
            recompute=parallel.recompute,
            recompute_every=parallel.recompute_every,
            sequence_parallel=parallel.sequence_parallel,
            zero=parallel.zero,
            zero_shard=parallel.zero_shard,
            precision=precision_on(cluster, recipe),
        )

    @property
    def micro_batches(self) -> int:
        """Of one pipeline in one step."""
        return micro_batches(self.global_batch_size, self.layout.data, self.micro_batch_size)

    @property
    def accelerators(self) -> int:
        return self.layout.world * self.context

    @cached_property
    def parallel(self) -> ParallelConfig:
        """The same as a recipe has it."""
        return ParallelConfig(
            tensor=self.layout.tensor,
            pipeline=self.layout.pipeline,
            data=self.layout.data,
            virtual_stages=self.virtual_stages,
            schedule=self.schedule if self.schedule != "zb-h2" else "zb-h1",
            sequence_parallel=self.sequence_parallel,
            recompute=self.recompute,
            recompute_every=self.recompute_every,
            zero=self.zero,
            zero_shard=self.zero_shard,
        )


def precision_on(cluster: Cluster, recipe: Recipe) -> Precision:
    """What the recipe trains in; "auto" is bf16 where the accelerator multiplies it, and fp16 elsewhere."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    return "fp16" if cluster.facts and "bf16" not in cluster.facts.flops_per_second else "bf16"
