"""The model: plain PyTorch, with no word of parallelism."""

from megalith.model.gpt import GPT
from megalith.model.initialise import initialise

__all__ = ["GPT", "initialise"]
