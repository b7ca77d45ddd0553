"""One layer of our own model on the tape, forward and backward, operation by operation as `megalith.model` has them.

What the backward pass will want stays; all else goes when the function that made it returns. The order matters: the
peak is between two operations. A gradient of the layer's output is there when the backward pass begins, and that of its
input when it ends, so the two cancel.
"""

from functools import lru_cache

from megalith.planning.performance.memory.layer_backward import attention_backward, mlp_backward
from megalith.planning.performance.memory.layer_forward import attention_forward, mlp_forward
from megalith.planning.performance.memory.tape import Segment, Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes


@lru_cache(maxsize=8192)
def layer_forward(s: Sizes, recompute: str) -> Segment:
    """Leaves what is kept, the layer's output among it."""
    tape, again = Tape(), recompute == "selective"
    keep, keep_core = recompute != "full", recompute == "none" or (again and not _keeps_scores(s))
    attention_forward(tape, s, keep=keep, keep_core=keep_core, again=again)
    mlp_forward(tape, s, keep=keep, again=again)
    return tape.done()


@lru_cache(maxsize=8192)
def layer_backward(s: Sizes, recompute: str) -> Segment:
    """Gives back all that `layer_forward` has left; the gradients of weights are added up elsewhere."""
    tape = Tape()
    if recompute == "full":
        attention_forward(tape, s, keep=True, keep_core=True, holds=True)
        mlp_forward(tape, s, keep=True, whole=False, holds=True)
    again, holds = recompute == "selective", recompute == "full"
    mlp_backward(tape, s, again=again, holds=holds)
    attention_backward(tape, s, core_again=again and _keeps_scores(s), again=again, holds=holds)
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
