"""The core of attention with relative positions on the tape, as `megalith.model.relative` has it.

Its scores are held whole: (B, H, T, T) numbers by distance, by key, together with the products, and as probabilities.
No more than two of these are there at a time; the last stays for the backward pass.
"""

from megalith.planning.performance.memory.tape import Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes


def relative_forward(tape: Tape, s: Sizes, *, keep: bool) -> None:
    """Leaves the output as the projection takes it, and what the backward pass wants of the core."""
    tape.make(s.scores)
    for _ in range(3):
        tape.swap(s.scores, s.scores)
    tape.make(s.query)
    tape.swap(s.query, s.query)
    if not keep:
        tape.drop(s.scores)


def relative_backward(tape: Tape, s: Sizes) -> None:
    """From the gradient of the output, which goes, to those of queries and of the heads of keys and values."""
    tape.make(s.query, s.scores)
    tape.drop(s.query)
    tape.swap(s.scores, s.scores, s.scores, s.query)  # the probabilities and the values go
    tape.swap(s.scores, s.scores)
    tape.make(s.query, s.query)
    tape.drop(s.query, s.query)
    tape.swap(s.scores, s.scores)
    tape.make(s.relative_keys, s.query)
    tape.drop(s.scores, s.query, s.relative_keys, s.relative_keys, s.query)
