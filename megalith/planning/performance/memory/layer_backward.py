"""The backward pass of a layer on the tape: of the MLP, then of the attention, with what is computed again in them."""

from megalith.planning.performance.memory.relative_core import relative_backward, relative_forward
from megalith.planning.performance.memory.tape import Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes
from megalith.planning.performance.memory.window_core import window_backward, window_forward
from megalith.precision import FP32_BYTES


def mlp_backward(tape: Tape, s: Sizes, *, again: bool, holds: bool) -> None:
    into = _enter_backward(tape, s)
    if again:
        tape.make(*([s.ffn] * (2 if s.gated else 1)))
        tape.drop(s.ffn if s.gated else 0.0)
    tape.make(s.ffn, s.ffn_weight)
    tape.drop(into, s.ffn)
    _add_up(tape, s, s.ffn_weight)
    if s.gated and again:
        tape.make(s.ffn, s.ffn, s.ffn, s.ffn)  # SiLU again, the gradient of `up`, that of SiLU, that of `gate`
        tape.drop(s.ffn, s.ffn, s.ffn, s.ffn, s.ffn)
        _norm_again(tape, s, s.norms_again > 0)
        if s.gathers:
            _products_backward(tape, s, (s.ffn, s.ffn), (s.ffn_weight, s.ffn_weight), holds=holds)
        else:
            for rest in (0.0, s.whole):
                tape.make(s.ffn_weight, s.whole)
                tape.drop(s.ffn, rest)
                if rest:
                    tape.swap(s.whole, s.whole, s.whole)
                _add_up(tape, s, s.ffn_weight)
    elif s.gated and s.gathers:
        tape.make(s.ffn, s.ffn)
        tape.drop(s.ffn, s.ffn, s.ffn)
        tape.swap(s.ffn, s.ffn, s.ffn)
        _products_backward(tape, s, (s.ffn, s.ffn), (s.ffn_weight, s.ffn_weight), holds=holds)
    elif s.gated:
        tape.make(s.ffn, s.ffn)
        tape.drop(s.ffn, s.ffn, s.ffn)
        tape.make(s.ffn_weight, s.whole)
        tape.drop(s.ffn)
        _add_up(tape, s, s.ffn_weight)
        tape.swap(s.ffn, s.ffn, s.ffn)
        tape.make(s.ffn_weight, s.whole)
        tape.drop(s.ffn, s.whole)
        tape.swap(s.whole, s.whole, s.whole)
        _add_up(tape, s, s.ffn_weight)
    else:
        tape.swap(s.ffn, s.ffn, s.ffn)
        _norm_again(tape, s, again and s.norms_again > 0)
        if s.gathers:
            _products_backward(tape, s, (s.ffn,), (s.ffn_weight,), holds=holds)
        else:
            tape.make(s.whole, s.ffn_weight)
            tape.drop(s.ffn, s.whole)
            _add_up(tape, s, s.ffn_weight)
    if s.parallel_residual:
        _through_norm(tape, s)
        tape.drop(s.stream, s.norm)
        tape.swap(s.stream, s.stream)
    else:
        _norm_backward(tape, s)


def _norm_again(tape: Tape, s: Sizes, again: bool) -> None:
    if again:
        tape.make(s.stream, s.norm)
        tape.drop(s.norm)


def _products_backward(
    tape: Tape, s: Sizes, gradients: tuple[float, ...], weights: tuple[float, ...], *, holds: bool
) -> None:
    """Products whose input is gathered again, unless it has been held: all of them together.

    Leaves the gradient of this rank's tokens of the input.
    """
    if not holds:
        tape.make(s.whole)
    tape.make(s.whole)
    if s.several_samples:
        tape.swap(s.whole, s.whole)
    tape.make(s.stream)
    tape.drop(s.whole)
    if s.several_samples and not holds:
        tape.swap(s.whole, s.whole)
    tape.make(*weights)
    tape.drop(s.whole, 0.0 if holds else s.stream, *gradients)
    for weight in weights:
        _add_up(tape, s, weight)


def attention_backward(tape: Tape, s: Sizes, *, core_again: bool, again: bool, holds: bool) -> None:
    into = _enter_backward(tape, s)
    tape.make(s.query, s.query_weight)
    tape.drop(into)
    _add_up(tape, s, s.query_weight)
    if s.parallel_residual:
        tape.drop(s.stream)  # the gradient of the layer's output, of which that of its input has its own copy by now
    if s.copies_output or core_again:
        tape.drop(s.query)  # what the projection has kept; the core's own output is another tensor, or is made again
    if s.exchanged:
        tape.make(s.query, s.query)
        tape.drop(s.query, s.query)
    expanded = s.query if s.expands else s.key
    if core_again and s.expands:
        tape.make(s.query, s.query)
    if s.blocks:
        if core_again:
            window_forward(tape, s, keep=True)
            tape.drop(s.padded)
        window_backward(tape, s)
        if core_again:
            tape.drop(s.query, expanded, expanded)
    elif s.scores:
        if core_again:
            relative_forward(tape, s, keep=True)
        relative_backward(tape, s)
        tape.drop(s.query, expanded)  # the output that the projection has kept, and the keys
    else:
        if core_again:
            tape.make(s.query, s.lse)
        tape.make(s.query, s.query, s.query)
        if s.groups:  # a gradient for each query's copy, summed within the kernel
            tape.make(s.key, s.key)
            tape.drop(s.query, s.query)
            tape.drop(s.query, s.query, s.key, s.key, s.lse)
        else:
            tape.drop(s.query, s.query, expanded, expanded, s.lse, s.query)
    if s.expands:
        if core_again:
            tape.drop(s.key, s.key)
        tape.swap(s.key, s.query)
        tape.swap(s.key, s.query)
    if s.exchanged:
        tape.make(s.exchanged, s.exchanged)
        tape.drop(s.exchanged, s.exchanged)
    if s.rotary:
        for size in (s.key, s.query):
            _rotate_backward(tape, s, size)
    if s.norms_heads:
        for size in (s.key, s.query):
            tape.make(size)
            tape.drop(size, size)
        tape.drop(s.head_norms)
    if s.rotary:
        tape.swap(s.key, s.key)
        if s.gathers:
            tape.swap(s.query, s.query)
    _norm_again(tape, s, again and s.norms_again > 1)
    if s.gathers:
        weights = (s.query_weight, s.key_weight, s.key_weight)
        _products_backward(tape, s, (s.query, s.key, s.key), weights, holds=holds)
        _norm_backward(tape, s)
        return
    tape.make(s.whole, s.key_weight)
    tape.drop(s.key)
    _add_up(tape, s, s.key_weight)
    tape.make(s.whole, s.key_weight)
    tape.drop(s.key)
    tape.swap(s.whole, s.whole, s.whole)
    _add_up(tape, s, s.key_weight)
    if s.rotary:
        tape.make(s.query)
        tape.drop(s.query)
    tape.make(s.whole, s.query_weight)
    tape.drop(s.query, s.whole)
    tape.swap(s.whole, s.whole, s.whole)
    _add_up(tape, s, s.query_weight)
    _norm_backward(tape, s)


def _add_up(tape: Tape, s: Sizes, weight: float) -> None:
    """A weight's gradient goes into the total at once; ZeRO holds it until the layer is done."""
    if not s.shared:
        tape.drop(weight)


def _enter_backward(tape: Tape, s: Sizes) -> float:
    """The gradient as the last product wants it; gives what of it is to be dropped after that."""
    into = 0.0
    if s.drops:
        tape.make(s.stream)
        tape.drop(s.mask)
        into = s.stream
    if s.gathers:
        tape.make(s.whole)
        tape.swap(s.whole, s.whole, into)
        into = s.whole
    return into


def _norm_backward(tape: Tape, s: Sizes) -> None:
    """The gradient of the products' input, summed over the ranks, through the norm, and added to the stream's."""
    _through_norm(tape, s)
    tape.drop(s.stream, s.stream, s.norm)
    tape.swap(s.stream, s.stream, s.stream)


def _through_norm(tape: Tape, s: Sizes) -> None:
    """The same, of a gradient that the products have summed themselves under sequence parallelism."""
    if s.reduces and not s.gathers:
        tape.swap(s.whole, s.whole)
    scaled_backward(tape, s)


def scaled_backward(tape: Tape, s: Sizes) -> None:
    """The gradient of what a norm gives becomes that of what it takes."""
    tape.make(s.stream)
    if s.rms:
        tape.make(s.stream)
        tape.drop(s.stream)


def _rotate_backward(tape: Tape, s: Sizes, size: float) -> None:
    whole = size * FP32_BYTES / s.compute_bytes
    half, own = whole * s.rotated / 2, size * s.rotated / 2
    if s.compute_bytes != FP32_BYTES:
        tape.swap(whole, size)
    tape.make(half)
    tape.swap(own, half)
    tape.make(half)
    tape.swap(own, half)
    tape.make(half, half, own)
    tape.drop(half, half)
    tape.swap(own, own, own)
    tape.make(half)
    tape.swap(own, half)
    tape.drop(whole)
    tape.swap(own, own, own)
    tape.swap(size, own, own)
