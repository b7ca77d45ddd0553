"""What is done to a model from outside to spread it over processes. So far: data parallelism."""

from megalith.parallel.data import Gradients, Ranks, join

__all__ = ["Gradients", "Ranks", "join"]
