"""The finished runs that a law is fitted on: parameters, tokens and final loss; the FLOPs and unique tokens of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Finished runs, one entry each."""

    parameters: Floats
    tokens: Floats
    """Trained on, repeated ones counted each time."""
    loss: Floats
    """Nats per token."""
    flops: Floats = field(default_factory=lambda: np.empty(0))
    """Training FLOPs. Default: 6·N·D."""
    unique_tokens: Floats = field(default_factory=lambda: np.empty(0))
    """Default: all of them, one epoch."""

    def __post_init__(self) -> None:
        if not self.flops.size:
            object.__setattr__(self, "flops", FLOPS_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens)
        if not self.unique_tokens.size:
            object.__setattr__(self, "unique_tokens", self.tokens)

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> "Points":
        return Points(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def log_n(self) -> Floats:
        return np.log(self.parameters)

    @property
    def log_d(self) -> Floats:
        return np.log(self.tokens)

    @property
    def log_loss(self) -> Floats:
        return np.log(self.loss)

    @property
    def epochs(self) -> Floats:
        return self.tokens / self.unique_tokens


def joined(parts: Sequence[Points]) -> Points:
    """All the runs of several sets, in order."""
    return Points(*(np.concatenate([getattr(part, name) for part in parts]) for name in Points.__dataclass_fields__))
