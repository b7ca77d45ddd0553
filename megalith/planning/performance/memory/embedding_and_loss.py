"""Before the first layer and after the last one, on the tape: the embedding, the last norm and the loss.

Embeddings are in fp32, but for those that ZeRO gathers. The loss takes some rows of logits at a time
(`megalith.model.loss`), finds the gradients along with it, and keeps them for the backward pass.
"""

from functools import lru_cache

from megalith.arithmetic import LOSS_ROWS, loss_rows_on_a_gpu
from megalith.planning.performance.memory.layer_backward import scaled_backward
from megalith.planning.performance.memory.tape import Segment, Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes
from megalith.precision import FP32_BYTES


@lru_cache(maxsize=8192)
def embedding_forward(s: Sizes) -> Segment:
    """Leaves the residual stream."""
    tape = Tape()
    if s.reduces:
        tape.make(2 * 8 * s.tokens)  # places and rows, as whole numbers
    tape.make(s.embedded_whole)
    embedded = s.embedded_stream
    if s.reduces:
        if s.narrows:
            tape.make(s.whole)
        tape.make(s.whole)
        tape.drop(s.embedded_whole, s.whole if s.narrows else 0.0)
        if s.gathers:
            tape.make(s.whole, s.stream)
            tape.drop(s.whole, s.whole)
        else:
            tape.swap(s.whole, s.whole)
        tape.drop(8 * s.tokens)
        embedded = s.stream
    if s.positions:
        tape.make(s.positions, s.embedded_stream)
        tape.drop(s.positions, embedded)
        embedded = s.embedded_stream
    if s.narrows and (s.positions or not s.reduces):
        tape.swap(s.stream, embedded)
    if s.drops:
        tape.make(s.stream, s.mask)
        tape.drop(s.stream)
    return tape.done()


@lru_cache(maxsize=8192)
def embedding_backward(s: Sizes, tied_gradient: float, *, waits: bool) -> Segment:
    """Gives back the gradient of the stream too; `tied_gradient` is what the loss has found for the same table.

    `waits` says that ZeRO reduces the tables' gradients later.
    """
    tape = Tape()
    if s.drops:
        tape.make(s.stream)
        tape.drop(s.stream, s.mask)
    if s.narrows and (s.positions or not s.reduces):
        tape.swap(s.embedded_stream, s.stream)
    if s.positions:
        tape.make(s.positions, s.positions)
        tape.drop(s.positions)
        if not waits:
            tape.drop(s.positions)
        if s.narrows and s.reduces:
            tape.swap(s.stream, s.embedded_stream)
    if s.gathers:
        tape.make(s.whole)
        tape.swap(s.whole, s.whole, s.stream)
    if s.reduces:
        tape.swap(s.whole, s.whole)
        if s.narrows:
            tape.swap(s.embedded_whole, s.whole)
    if s.on_cpu and s.embedding_bytes != FP32_BYTES:
        tape.make(s.wide_whole, _own_gradient(s))
        tape.drop(s.wide_whole)
        tape.swap(s.table, s.embedded_whole, _own_gradient(s))
    else:
        tape.swap(s.table, s.embedded_whole)
    if s.reduces:
        tape.drop(8 * s.tokens)
    if tied_gradient:
        tape.swap(s.table, s.table, tied_gradient)
    if not waits:
        tape.drop(s.table)
    return tape.done()


@lru_cache(maxsize=8192)
def loss_forward(s: Sizes) -> Segment:
    """The last norm and the loss; leaves the two gradients and what the norm keeps."""
    tape = Tape()
    tape.make(s.stream, s.norm)
    features = s.stream
    if s.gathers:
        tape.make(s.whole)
        tape.swap(s.whole, s.whole)
        features = s.whole + s.stream
    tape.make(s.whole, _own_gradient(s))
    before = tape.now
    if s.narrows:
        tape.make(s.vocabulary * s.hidden * s.compute_bytes)
    _rows(tape, s)
    tape.now = before
    tape.drop(features)
    return tape.done()


def _rows(tape: Tape, s: Sizes) -> None:
    """Logits of some rows, and again while those before are still there; the last ones may be fewer."""
    at_a_time = min(s.tokens, LOSS_ROWS if s.on_cpu else loss_rows_on_a_gpu(s.whole_vocabulary))
    turns, rest = divmod(s.tokens, at_a_time)
    counts = [at_a_time] * min(turns, 2) + ([rest] if rest else [])
    weight = s.vocabulary * s.hidden * s.compute_bytes
    same = s.compute_bytes == FP32_BYTES
    old_wide = old_narrow = old_weight = 0.0
    for count in counts:
        wide, narrow = count * s.vocabulary * FP32_BYTES, count * s.vocabulary * s.compute_bytes
        if s.reduces:
            tape.make(narrow)
            if not same:
                tape.swap(wide, narrow)
            tape.drop(old_wide)
        else:
            tape.swap(narrow, old_narrow)
            if not same:
                tape.make(wide)
            tape.make(wide)
            if not same:
                tape.drop(wide)
            tape.drop(old_wide)
        if not same:
            tape.make(narrow)
            tape.drop(old_narrow)
        rows = count * s.hidden * s.compute_bytes
        tape.make(rows, weight)
        tape.drop(rows, old_weight)
        old_wide, old_narrow, old_weight = wide, narrow, weight


@lru_cache(maxsize=8192)
def loss_backward(s: Sizes, *, holds: bool) -> Segment:
    """Leaves the gradient of the stream, and with `holds` that of the table; the last layer's output stays."""
    tape = Tape()
    if s.compute_bytes != FP32_BYTES:
        wide = s.wide_whole
        tape.make(wide, wide)
        tape.drop(wide)
        tape.swap(s.whole, wide)
    else:
        tape.make(s.whole)
    tape.drop(s.whole)
    if s.embedding_bytes != FP32_BYTES:
        tape.swap(s.table, _own_gradient(s))
    if not holds:
        tape.drop(s.table)
    if s.gathers:
        tape.make(s.whole, s.stream)
        tape.drop(s.whole, s.whole)
    elif s.reduces:
        tape.swap(s.whole, s.whole)
    scaled_backward(tape, s)
    tape.drop(s.stream, s.norm, s.stream)  # the last layer's output is one of them
    return tape.done()


def _own_gradient(s: Sizes) -> float:
    """The output weights' gradient as the loss finds it: in fp32."""
    return s.table / s.embedding_bytes * FP32_BYTES
