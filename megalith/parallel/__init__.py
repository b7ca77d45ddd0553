"""What is done to a model from outside to spread it over processes."""

from megalith.parallel.deterministic import compute_deterministically
from megalith.parallel.dropout import noise_of
from megalith.parallel.masters import Master, local
from megalith.parallel.optimizer import Optimizer
from megalith.parallel.parallelize import MicroBatch, SpreadModel, spread
from megalith.parallel.ranks import Ranks, arrange, join
from megalith.parallel.step import clip_factor, compute_dtype, loss_weights, take_step, update

__all__ = [
    "Master",
    "MicroBatch",
    "Optimizer",
    "Ranks",
    "SpreadModel",
    "arrange",
    "clip_factor",
    "compute_deterministically",
    "compute_dtype",
    "join",
    "local",
    "loss_weights",
    "noise_of",
    "spread",
    "take_step",
    "update",
]
