"""The core of attention over a sliding window on the tape, as `megalith.model.window` has it.

The first block of queries is computed by itself; the others, each with its own keys and those of the block before.
"""

from megalith.planning.performance.memory.tape import Tape
from megalith.planning.performance.memory.tensor_bytes import Sizes


def window_forward(tape: Tape, s: Sizes, *, keep: bool) -> None:
    """Leaves the output, and what the backward pass wants of it."""
    block, others = _parts(s)
    if s.is_padded:
        tape.make(s.padded, s.padded, s.padded)
    tape.make(4 * block, s.lse / s.blocks)
    tape.make(6 * others, s.lse - s.lse / s.blocks)
    tape.make(others, s.padded)
    tape.drop(others)
    if s.is_padded:
        tape.drop(s.padded, s.padded, s.padded)
    if not keep:
        tape.drop(4 * block, 6 * others, s.lse)


def window_backward(tape: Tape, s: Sizes) -> None:
    """From the gradient of the output, which goes, to those of queries and of the heads of keys and values."""
    block, others = _parts(s)
    tape.make(others, 5 * others)
    tape.drop(7 * others, s.lse - s.lse / s.blocks)
    for _ in range(2):  # values and keys: each block was used twice
        tape.make(s.padded, s.padded)
        tape.swap(s.padded, s.padded, s.padded)
        tape.drop(2 * others)
    tape.swap(s.padded, others)
    tape.make(3 * block)
    tape.drop(4 * block, s.lse / s.blocks)
    for _ in range(3):
        tape.make(s.padded)
        tape.swap(s.padded, s.padded, s.padded, block)
    tape.drop(s.query)
    if s.is_padded:
        for _ in range(3):
            tape.swap(s.query, s.padded)


def _parts(s: Sizes) -> tuple[float, float]:
    """Bytes of one block of queries, and of all others."""
    block = s.padded / s.blocks
    return block, s.padded - block
