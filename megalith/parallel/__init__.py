"""What is done to a model from outside to spread it over processes."""

from megalith.parallel.data import clip_factor
from megalith.parallel.dropout import noise_of
from megalith.parallel.masters import Master, local
from megalith.parallel.parallelize import MicroBatch, SpreadModel, action_lists, spread
from megalith.parallel.ranks import Ranks, arrange, join

__all__ = [
    "Master",
    "MicroBatch",
    "Ranks",
    "SpreadModel",
    "action_lists",
    "arrange",
    "clip_factor",
    "join",
    "local",
    "noise_of",
    "spread",
]
