"""What is done to a model from outside to spread it over processes."""

from megalith.parallel.data import clip_factor
from megalith.parallel.deterministic import compute_deterministically
from megalith.parallel.dropout import noise_of
from megalith.parallel.masters import Master, local
from megalith.parallel.parallelize import MicroBatch, SpreadModel, spread
from megalith.parallel.ranks import Ranks, arrange, join

__all__ = [
    "Master",
    "MicroBatch",
    "Ranks",
    "SpreadModel",
    "arrange",
    "clip_factor",
    "compute_deterministically",
    "join",
    "local",
    "noise_of",
    "spread",
]
