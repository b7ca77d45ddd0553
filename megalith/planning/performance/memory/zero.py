"""ZeRO's part of a stage's passes, as FSDP2 does it: gathered weights, whole gradients, the messages' buffers.

A group is a layer, or the stage's embeddings. In a pipeline torch reduces nothing before the last backward pass, and
once a layer has been gathered for a backward pass it stays so until a forward pass gives it back.
"""

from megalith.planning.performance.memory.tape import Segment
from megalith.planning.performance.memory.tensor_bytes import Sizes, StageSettings
from megalith.precision import FP32_BYTES


def gathered_forward(s: Sizes, layer: Segment, zero: int) -> Segment:
    """A layer's forward pass: its weights, and the buffer that they came in."""
    if not s.shared or zero < 3:
        return layer
    return Segment(layer.net, layer.peak + 2 * s.layer_weights)


def gathered_backward(
    s: Sizes, layer: Segment, settings: StageSettings, *, pipelined: bool, first: bool, last: bool, root: float
) -> Segment:
    """A layer's backward pass, until its gradients are reduced (in a pipeline: put aside).

    `first` says that none came before it; then `root`, the buffer of the embeddings' reduction, is still there. `last`
    says that none comes after it, whose weights would be on their way already.
    """
    if not s.shared:
        return layer
    zero, weights, wide = settings.zero, s.layer_weights, s.layer_weights / s.compute_bytes * FP32_BYTES
    fetched = (1 if last else 2) * weights if zero >= 3 else 0.0
    net, peak = layer.net - weight_gradients(s), layer.peak + fetched
    if pipelined:
        return Segment(net + (weights if zero >= 3 else 0.0), peak)
    if not settings.several:
        net += wide / settings.shard
    if zero == 1:
        return Segment(net, max(peak, layer.net + wide))
    before = root if first else wide
    return Segment(net + wide - before, max(peak, layer.net + fetched - weights * (zero >= 3) + wide - before))


def reduced_embeddings(s: Sizes, backward: Segment, zero: int, *, pipelined: bool, tables: float) -> Segment:
    """After the last group: `tables` is the bytes of the embeddings' gradients."""
    if not s.shared:
        return backward
    wide = tables / s.embedding_bytes * FP32_BYTES
    if pipelined:
        return Segment(backward.net - tables, backward.peak)
    if zero == 1:
        return Segment(backward.net - tables, max(backward.peak, backward.net + wide))
    layer = s.layer_weights / s.compute_bytes * FP32_BYTES
    return Segment(backward.net - layer, max(backward.peak, backward.net - layer + wide))


def embeddings_wait(settings: StageSettings, *, pipelined: bool) -> bool:
    """Whether gradients of the embeddings stay until they are reduced: the first ones do, later ones are added."""
    return settings.shard > 1 and not (settings.several and (pipelined or settings.zero == 1))


def weight_gradients(s: Sizes) -> float:
    """Bytes of a layer's matrices, in the layer's type."""
    return 2 * (s.query_weight + s.key_weight) + (3 if s.gated else 2) * s.ffn_weight


def standing(zero: int, layers: float, embeddings: float, shard: int, compute_bytes: int, *, pipelined: bool,
             several: bool) -> tuple[float, float, float]:  # fmt: skip
    """Bytes that stand while a later micro-batch runs: gathered weights, gradients, buffers.

    `layers` and `embeddings` are parameters of the rank; `several` says that there is an earlier micro-batch.
    """
    gathered = compute_bytes * (embeddings + (layers if zero < 3 else 0.0))
    whole = FP32_BYTES * (layers + embeddings)
    if not several:
        return gathered, 0.0, 0.0
    if pipelined or zero == 1:
        return gathered, whole, 0.0
    return gathered, whole / shard, FP32_BYTES * embeddings
