"""One layer of our own model on the tape, forward and backward, operation by operation as `megalith.model` has them.

What the backward pass will want stays; all else goes when the function that made it returns. The order matters: the
peak is between two operations. A gradient of the layer's output is there when the backward pass begins, and that of its
input when it ends, so the two cancel.
"""

from functools import lru_cache

from megalith.planning.performance.memory.relative_core import relative_backward, relative_forward
from megalith.planning.performance.memory.tape import Segment, Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes
from megalith.planning.performance.memory.window_core import window_backward, window_forward
from megalith.precision import FP32_BYTES


@lru_cache(maxsize=8192)
def layer_forward(s: Sizes, recompute: str) -> Segment:
    """Leaves what is kept, the layer's output among it."""
    tape, again = Tape(), recompute == "selective"
    keep, keep_core = recompute != "full", recompute == "none" or (again and not _keeps_scores(s))
    _attention_forward(tape, s, keep=keep, keep_core=keep_core, again=again)
    _mlp_forward(tape, s, keep=keep, again=again)
    return tape.done()


@lru_cache(maxsize=8192)
def layer_backward(s: Sizes, recompute: str) -> Segment:
    """Gives back all that `layer_forward` has left; the gradients of weights are added up elsewhere."""
    tape = Tape()
    if recompute == "full":
        _attention_forward(tape, s, keep=True, keep_core=True, holds=True)
        _mlp_forward(tape, s, keep=True, whole=False, holds=True)
    again, holds = recompute == "selective", recompute == "full"
    _mlp_backward(tape, s, again=again, holds=holds)
    _attention_backward(tape, s, core_again=again and _keeps_scores(s), again=again, holds=holds)
    return tape.done()


@lru_cache(maxsize=8192)
def layer_input_gradient(s: Sizes, recompute: str) -> Segment:
    """A backward pass without the gradients of weights: nothing goes, and what these will want is left too.

    Of each product its output's gradient stays, and of each norm.
    """
    again = layer_forward(s, "none").net - layer_forward(s, recompute).net
    products = (2 if s.gated else 1) * s.ffn + s.query + 2 * s.key + 2 * s.whole
    held = again + products + 2 * s.stream
    return Segment(held, held + s.whole)


def _keeps_scores(s: Sizes) -> bool:
    """Whether `selective` computes the attention's core again."""
    return s.on_cpu or s.scores > 0


def _attention_forward(
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


def _mlp_forward(
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


def _mlp_backward(tape: Tape, s: Sizes, *, again: bool, holds: bool) -> None:
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


def _attention_backward(tape: Tape, s: Sizes, *, core_again: bool, again: bool, holds: bool) -> None:
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
