"""One training run with nothing left open: a model and a batch on a cluster, and how both are laid out.

A recipe may leave its layout, micro-batch and precision open; a `Job` is one answer. Whatever predicts, searches, draws
or dry-runs a step takes a `Job`. The fields are the recipe's, flat: a search makes thousands a second.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

from megalith.batches import micro_batch_multiple, micro_batches, padded_micro_batches
from megalith.errors import RecipeError
from megalith.precision import Fp8, Precision, compute_bytes
from megalith.recipe import ModelConfig, ParallelConfig, Recipe
from megalith.topology import Cluster, Layout, shard_ranks

Recompute = Literal["none", "selective", "full"]
Zero = Literal[0, 1, 2, 3]
ZERO_STAGES: tuple[Zero, ...] = get_args(Zero)
Schedule = Literal["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2"]


@dataclass(frozen=True)
class Job:
    """A training step, fully specified."""

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
    precision: Precision = "bf16"
    fp8: Fp8 | None = None
    """The scaling of fp8 in the layers' matrix products, which are otherwise in `precision`; attention and logits stay
    in that."""
    tensor_overlap: bool = False
    """Whether the tensor axis sends beside the products (Megatron-Core's tp-comm-overlap, torchtitan's async TP)."""
    cuda_graphs: bool = False
    """Whether a layer's kernels are launched together."""
    fused_attention: bool = True
    """Whether attention scores stay on the chip (FlashAttention, 2205.14135)."""
    stack: str = "megalith"
    """The software that runs it (`planning.performance.stacks`)."""
    context_method: Literal["ring", "all_to_all"] = "all_to_all"
    expert: int = 1
    """Ranks of the data axis that share the experts of a mixture."""
    optimizer_state: Literal["fp32", "int8"] = "fp32"
    offload_optimizer: bool = False

    @classmethod
    def of(cls, recipe: Recipe, cluster: Cluster) -> "Job":
        """The step of a sized recipe on a cluster; axes and a micro-batch size that it leaves open count as 1."""
        parallel, train = recipe.parallel, recipe.train
        return cls(
            model=recipe.model,
            cluster=cluster,
            layout=Layout(parallel.tensor or 1, parallel.pipeline or 1, parallel.data or 1, parallel.context or 1),
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
            fp8=fp8_on(cluster, recipe),
            tensor_overlap=parallel.tensor_overlap,
            cuda_graphs=train.cuda_graphs,
            context_method=parallel.context_method,
            expert=parallel.expert or 1,
            optimizer_state=train.optimizer_state,
            offload_optimizer=parallel.offload_optimizer,
        )

    @property
    def micro_batches(self) -> int:
        """Micro-batches of one pipeline in one step."""
        return micro_batches(self.global_batch_size, self.layout.data, self.micro_batch_size)

    @property
    def accelerators(self) -> int:
        return self.layout.world

    @property
    def stages(self) -> int:
        """Pipeline stages, virtual ones counted."""
        return self.layout.pipeline * (self.virtual_stages if self.layout.pipeline > 1 else 1)

    @property
    def shard_ranks(self) -> int:
        """Ranks that ZeRO shards over; 1 without ZeRO."""
        return shard_ranks(self.zero, self.zero_shard, self.layout.gradient_ranks)

    @property
    def product_type(self) -> str:
        """The type that the layers' products are in, by its name among an accelerator's peaks."""
        return self.precision if self.fp8 is None else "fp8"

    @property
    def compute_bytes(self) -> int:
        """Bytes of one number in the layers' products."""
        return compute_bytes(self.precision)

    def at_batch(self, sequences: int) -> "Job":
        """The job at another global batch, filled up to whole micro-batches on every replica and whole rounds."""
        multiple = micro_batch_multiple(self.schedule, self.layout.pipeline)
        count = padded_micro_batches(sequences, self.layout.data, self.micro_batch_size, multiple)
        return replace(self, global_batch_size=count * self.layout.data * self.micro_batch_size)

    @cached_property
    def parallel(self) -> ParallelConfig:
        """The recipe's section for this layout."""
        return ParallelConfig(
            tensor=self.layout.tensor,
            pipeline=self.layout.pipeline,
            data=self.layout.data,
            context=self.layout.context if self.layout.context > 1 else None,
            context_method=self.context_method,
            expert=self.expert if self.expert > 1 else None,
            offload_optimizer=self.offload_optimizer,
            tensor_overlap=self.tensor_overlap,
            virtual_stages=self.virtual_stages,
            schedule=self.schedule if self.schedule != "zb-h2" else "zb-h1",
            sequence_parallel=self.sequence_parallel,
            recompute=self.recompute,
            recompute_every=self.recompute_every,
            zero=self.zero,
            zero_shard=self.zero_shard,
        )


def precision_on(cluster: Cluster, recipe: Recipe) -> Precision:
    """The precision that the recipe trains in; "auto" is bf16 where the accelerator has it, and fp16 elsewhere."""
    if recipe.train.precision != "auto":
        return recipe.train.precision
    return "fp16" if cluster.facts and "bf16" not in cluster.facts.flops_per_second else "bf16"


def fp8_on(cluster: Cluster, recipe: Recipe) -> Fp8 | None:
    """The recipe's scaling of fp8. Raises RecipeError where the accelerator has no fp8."""
    if recipe.train.fp8 is not None and cluster.facts and "fp8" not in cluster.facts.flops_per_second:
        raise RecipeError(
            f"{cluster.accelerator} is not known to have fp8.",
            where="train.fp8",
            mend="Leave it out; or, in a cluster file of your own, give the accelerator's peak in fp8.",
        )
    return recipe.train.fp8
