"""The forward pass of a layer on the tape: attention and MLP, each with its norm and its sum with the stream."""

from megalith.planning.performance.memory.relative_core import relative_forward
from megalith.planning.performance.memory.tape import Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes
from megalith.planning.performance.memory.window_core import window_forward
from megalith.precision import FP32_BYTES


def attention_forward(
    tape: Tape, s: Sizes, *, keep: bool, keep_core: bool, again: bool = False, holds: bool = False
) -> None:
    """`again`: what the norms give is made again; `holds`: what is gathered of it stays."""
    _norm_forward(tape, s, keep=keep)
    _products_forward(tape, s, s.query, s.key, s.key, holds=holds)
    if s.norms_heads:
        tape.make(s.query, s.key, s.head_norms)
        if not keep:
            tape.drop(s.query, s.key, s.head_norms)
    if s.rotary:
        _rotate_forward(tape, s)
    if s.exchanged:
        tape.make(s.exchanged, s.exchanged)  # what is sent, then what comes beside the same by heads
        tape.drop(s.exchanged, s.exchanged)
    if s.scores:
        tape.make(s.query, s.query, s.relative_keys)
        tape.drop(s.query)
    if s.expands:
        tape.make(s.query, s.query)  # keys and values, repeated for each head of their group
    if s.blocks:
        window_forward(tape, s, keep=keep_core)
        if s.expands:
            tape.drop(s.query, s.query)
    elif s.scores:
        relative_forward(tape, s, keep=keep_core)
        if s.expands:
            tape.drop(*((s.key, s.key) if keep_core else (s.query, s.query)))
    else:
        tape.make(s.query, s.lse)
        if not keep_core:
            tape.drop(s.lse)
        if s.expands:
            tape.drop(*((s.key, s.key) if keep_core else (s.query, s.query)))
    if s.exchanged:
        tape.make(s.query, s.query)
        tape.drop(s.query, s.query)
    if s.copies_output:
        tape.make(s.query)
        if not keep_core:
            tape.drop(s.padded if s.blocks else s.query)
    _leave(tape, s)
    if s.blocks and keep_core:
        tape.drop(s.padded, s.query, s.key, s.key)  # kept block by block
    if not keep:
        tape.drop(s.query, s.key, s.key, s.query)
        if s.scores:
            tape.drop(s.query, s.relative_keys)
        tape.drop(s.stream)
    elif (again and s.norms_again > 1) or (s.gathers and holds):
        tape.drop(s.stream)
    _add(tape, s, keep=keep)


def mlp_forward(
    tape: Tape, s: Sizes, *, keep: bool, whole: bool = True, again: bool = False, holds: bool = False
) -> None:
    """Recomputation stops at the last tensor that is wanted, where `whole` is false.

    `again`: what the norm and the activation give is made again; `holds`: what is gathered of the norm's stays.
    """
    _norm_forward(tape, s, keep=keep)
    if s.gated:
        _products_forward(tape, s, s.ffn, s.ffn, holds=holds)
        tape.make(s.ffn, s.ffn)  # SiLU of one, and its product with the other
        if not keep:
            tape.drop(s.ffn, s.ffn, s.ffn)
        elif again:
            tape.drop(s.ffn)
    else:
        _products_forward(tape, s, s.ffn, holds=holds)
        tape.make(s.ffn)
        if not keep:
            tape.drop(s.ffn)
    if not whole and not s.drops:
        if s.gathers and holds:
            tape.drop(s.stream)
        return
    _leave(tape, s)
    if s.gathers and holds:
        tape.drop(s.stream)
    if not keep:
        tape.drop(s.ffn, s.stream)
    elif again:
        tape.drop(s.ffn, s.stream if s.norms_again else 0.0)
    if not whole:  # the mask is the last that is wanted
        tape.make(s.stream, s.mask)
        tape.drop(s.stream, s.stream)
        return
    _add(tape, s, keep=keep)
    if not keep or s.parallel_residual:
        tape.drop(s.stream)  # the stream between attention and MLP


def _norm_forward(tape: Tape, s: Sizes, *, keep: bool) -> None:
    tape.make(s.stream)
    if keep:
        tape.make(s.norm)


def _products_forward(tape: Tape, s: Sizes, *results: float, holds: bool) -> None:
    """The products of what a norm gives, gathered for them where it is split along the sequence."""
    if s.gathers:
        tape.make(s.whole)
        if s.several_samples:
            tape.swap(s.whole, s.whole)
    tape.make(*results)
    if s.gathers and not holds:
        tape.drop(s.whole)


def _leave(tape: Tape, s: Sizes) -> None:
    """The last product, and its sum over the tensor-parallel ranks."""
    tape.make(s.whole)
    if s.gathers:
        tape.make(s.whole, s.stream)
        tape.drop(s.whole, s.whole)
    elif s.reduces:
        tape.swap(s.whole, s.whole)


def _add(tape: Tape, s: Sizes, *, keep: bool) -> None:
    if s.drops:
        tape.make(s.stream, s.mask)
        tape.drop(s.stream)
        if not keep:
            tape.drop(s.mask)
    tape.swap(s.stream, s.stream)


def _rotate_forward(tape: Tape, s: Sizes) -> None:
    """Rotated queries and keys in fp32, half a head at a time, and then in the layer's type."""
    for size in (s.query, s.key):
        whole = size * FP32_BYTES / s.compute_bytes
        half = whole * s.rotated / 2
        tape.make(half, half, half)
        tape.drop(half, half)
        tape.make(half, half, half)
        tape.drop(half, half)
        tape.swap(whole, half, half)
        if s.compute_bytes != FP32_BYTES:
            tape.swap(size, whole)
    tape.drop(s.query, s.key)
