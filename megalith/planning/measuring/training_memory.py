"""Bytes that training takes on this machine, by part, and the refusal where they cannot fit.

Of one process: Python with torch after a first step (measured), fp32 weights and gradients and Adam's two moments, the
layers' weights once more where they compute in half precision, what autograd keeps of a micro-batch (counted,
see `step_times.saved_bytes`), and a working set: what one layer's backward pass and one slice of the logits need
beside that.
"""

from collections.abc import Mapping

from megalith.arithmetic import GRADIENT_BYTES, LOSS_ROWS, OPTIMIZER_BYTES, WEIGHT_BYTES, parameters, state_bytes
from megalith.console import human_bytes
from megalith.errors import ResourceError
from megalith.recipe import ModelConfig, ParallelConfig

USABLE_SHARE = 0.9  # the rest of the memory is the system's and the page cache's
COMPUTE_BYTES = 2  # of bf16 and fp16
_LOGIT_BYTES = 4 + 4 + 4  # of one logit at once: the product, its log-softmax, their gradient
_SHARDED_FROM = {"optimizer": 1, "gradients": 2, "weights": 3}  # the ZeRO stage that shares each part out
_ALLOCATOR = 1.1  # freed blocks that the C library holds on to


def training_memory(
    model: ModelConfig,
    micro_batch_size: int,
    parallel: ParallelConfig,
    precision: str,
    saved: Mapping[str, float],
    base_bytes: int,
) -> dict[str, int]:
    """Bytes of all processes together, by part: the parts add up to the whole.

    A pipeline of p stages holds (p + 1) / 2 micro-batches of the whole model's activations on average (1F1B); what
    tensor parallelism saves of them, and recomputation, is left out. Ranks that share samples hold a part each.
    """
    data, pipeline = parallel.data or 1, parallel.pipeline or 1
    alike = data * (parallel.context or 1)
    processes = alike * pipeline * (parallel.tensor or 1)
    copies = {"weights": alike, "gradients": alike, "optimizer": alike}  # that ZeRO does not share out
    if parallel.zero:
        replicas = alike // (parallel.zero_shard or alike)
        copies |= {part: replicas for part, stage in _SHARDED_FROM.items() if parallel.zero >= stage}
    count = parameters(model).total
    narrow = 0 if precision == "fp32" else parameters(model).non_embedding * COMPUTE_BYTES
    kept = (
        saved["constant"]
        + saved["per_layer"] * model.layers
        + saved["per_sequence"] * micro_batch_size
        + saved["per_layer_and_sequence"] * model.layers * micro_batch_size
    ) * (1 + pipeline) / 2  # fmt: skip
    layer = saved["per_layer"] + saved["per_layer_and_sequence"] * micro_batch_size
    logits = min(LOSS_ROWS, micro_batch_size * model.sequence_length) * model.padded_vocab_size * _LOGIT_BYTES
    parts = {
        "program": processes * base_bytes,
        "weights": copies["weights"] * count * WEIGHT_BYTES + alike * narrow,
        "gradients": copies["gradients"] * count * GRADIENT_BYTES,
        "optimizer": copies["optimizer"] * count * OPTIMIZER_BYTES,
        "activations": data * kept * _ALLOCATOR,
        "working": processes * (layer + logits) * _ALLOCATOR,
    }
    return {name: round(bytes_) for name, bytes_ in parts.items()}


def refuse_what_cannot_fit(model: ModelConfig, memory_bytes: int) -> None:
    """Raise ResourceError if not even weights, gradients and optimizer fit."""
    count, needed, usable = parameters(model).total, state_bytes(model), USABLE_SHARE * memory_bytes
    if needed > usable:
        raise ResourceError(
            f"weights, gradients and Adam's moments of {count:,} parameters take "
            f"{human_bytes(needed)}, and this machine has {human_bytes(memory_bytes)}.",
            mend=f"Use a model of {int(usable / needed * count / 1e6):,} million parameters or fewer.",
        )
