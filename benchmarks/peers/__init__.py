"""The contestants of `train_cpu.py`: Megalith and its peers, a small file each, training one GPT on the same tokens.

A file has one function, `train(task) -> Trained`, and is run in a process of its own. Each is written as its project's
own documents say to, with nothing turned on that they do not turn on; what differs from Megalith's model is said in the
file.
"""

import time
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WARM = 3  # steps that do not count: they allocate, choose kernels and compile
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Task:
    """The model to train, its batches, and for how long."""

    layers: int
    hidden: int
    heads: int
    vocab: int
    length: int
    """Tokens of a sequence."""
    sequences: int
    """Sequences of a step: one micro-batch, no accumulation."""
    steps: int
    """Steps that are timed; WARM more come before."""
    precision: str
    """fp32 or bf16."""
    compiled: bool
    threads: int

    @property
    def all_steps(self) -> int:
        return WARM + self.steps

    def tokens(self) -> NDArray[np.int64]:
        """Ids (steps · sequences, T + 1), low numbers frequent, so that there is something to learn."""
        shape = (self.all_steps * self.sequences, self.length + 1)
        return np.random.default_rng(0).geometric(0.01, shape) % self.vocab


@dataclass
class Trained:
    """Losses and times of one contestant."""

    parameters: int
    losses: list[float] = field(default_factory=list)
    """Loss of each step, in nats a token."""
    seconds: list[float] = field(default_factory=list)
    """From the end of one step to the end of the next, whatever lies between, without the first WARM steps."""
    versions: dict[str, str] = field(default_factory=dict)


class Steps:
    """Notes when each step ended."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def end(self) -> None:
        """A step is over."""
        self._ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Seconds of each step but the first WARM."""
        timed = self._ends[WARM - 1 :]
        return [later - earlier for earlier, later in pairwise(timed)]
