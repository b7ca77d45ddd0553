"""The sections about compute: `budget`, `cluster`, `parallel`."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from megalith.recipe.base import Dimension, Section


class BudgetConfig(Section):
    """The compute that may be spent: in FLOPs or in hours, not in both."""

    flops: PositiveFloat | None = None
    """Training FLOPs (forward and backward, recomputation not counted). With no model shape, the plan sizes the model
    for it."""
    hours: PositiveFloat | None = Field(default=None, le=1e6)
    """Hours of training on the recipe's machines, in place of FLOPs: on this machine at the rate that is measured here,
    on a cluster at the predicted MFU."""
    law: (
        Literal["chinchilla-1", "chinchilla-2", "chinchilla-3", "chinchilla-refit", "kaplan"]
        | Annotated[str, Field(pattern=r"\.json$")]
    ) = "chinchilla-refit"
    """The scaling law that sizes the model, or the .json file of `scaling fit --output`. chinchilla-3 is the paper's
    own table; the refit corrects its fit."""
    parameters_counted: Literal["total", "non_embedding"] = "total"
    """The parameters that the law's N counts. Chinchilla counted all of them, in models of 44M and more; below about
    10M the embedding is most of the model, and non_embedding is better."""

    @property
    def is_given(self) -> bool:
        """Whether there is a budget, of either kind."""
        return self.flops is not None or self.hours is not None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.flops is not None and self.hours is not None:
            raise ValueError(
                f"flops is {self.flops:g} and hours is {self.hours:g}: a budget is one of them; remove the other"
            )
        return self


def cluster_section(text: str) -> dict[str, str]:
    """The section that `cluster: TEXT` stands for: a file, or a name."""
    return {"file": text} if text.endswith((".yaml", ".yml")) or "/" in text else {"name": text}


class ClusterConfig(Section):
    """The machines: a name or a file is enough, as in `cluster: selene` and `cluster: ours.yaml`."""

    LATER: ClassVar[tuple[str, ...]] = ("file",)

    name: str = "local"
    """local: this machine. Otherwise a cluster that Megalith describes, such as selene; with a file, its name."""
    file: Path | None = None
    """A YAML file that describes the cluster (docs/clusters.md)."""
    nodes: Annotated[int, Field(gt=0, le=1_000_000)] = 1
    accelerators_per_node: Annotated[int, Field(gt=0, le=1024)] | None = None
    """Default: what the cluster's description says (for local: GPUs if there are any, else CPU cores)."""

    @model_validator(mode="before")
    @classmethod
    def _by_name_or_file(cls, values: Any) -> Any:
        """A text is a name or a file; a file's cluster without a name has that of the file."""
        found = cluster_section(values) if isinstance(values, str) else values
        if isinstance(found, dict) and found.get("file") is not None and found.get("name", "local") == "local":
            found = {**found, "name": Path(str(found["file"])).stem}
        return found


class ParallelConfig(Section):
    """How the model is spread. What is left out, the plan chooses."""

    LATER: ClassVar[tuple[str, ...]] = ("context", "context_method", "expert", "offload_optimizer", "tensor_overlap")

    tensor: Dimension | None = None
    pipeline: Dimension | None = None
    data: Dimension | None = None
    context: Dimension | None = None
    """Ranks that share the tokens of each sequence. Default: one; long sequences: the best."""
    context_method: Literal["ring", "all_to_all"] = "all_to_all"
    """all_to_all: heads for tokens (Ulysses, 2309.14509). ring: keys and values go round (2310.01889; planning
    alone)."""
    expert: Dimension | None = None
    """Ranks of the data axis that share the experts (planning alone); a divisor of `data` and of `model.experts`."""
    offload_optimizer: bool = False
    """Masters and moments, and their update, on the node's processors (ZeRO-Offload, 2101.06840; planning alone)."""
    tensor_overlap: bool = False
    """The tensor axis sends beside the products (Megatron-Core's tp-comm-overlap, torchtitan's async TP; planning
    alone)."""
    virtual_stages: Dimension = 1
    schedule: Literal["gpipe", "1f1b", "interleaved-1f1b", "zb-h1"] = "1f1b"
    schedule_file: Path | None = None
    """A CSV of your own in place of `schedule`: one row a pipeline rank, cells such as 0F3, 0B3, 0I3, 0W3."""
    sequence_parallel: bool = False
    """Split norms and the residual stream along the sequence over the tensor-parallel ranks."""
    recompute: Literal["none", "selective", "full"] = "none"
    """selective: what costs no product, and the attention's scores where its kernel keeps them. full: whole layers."""
    recompute_every: Dimension = 1
    """Recompute in each n-th layer."""
    zero: Literal[0, 1, 2, 3] = 0
    """ZeRO stage of the data-parallel axis: 1 shards the optimizer's state, 2 gradients too, 3 weights too."""
    zero_shard: Dimension | None = None
    """Ranks that ZeRO shards over; a divisor of `data` × `context`, whose other ranks hold the same. Default: all of
    them."""
