"""The models: plain PyTorch, with no word of parallelism."""

from collections.abc import Mapping

from megalith.model.bert import BERT
from megalith.model.gpt import GPT
from megalith.model.initialise import initialise
from megalith.model.transformer import Transformer

MODELS: Mapping[str, type[Transformer]] = {"gpt": GPT, "bert": BERT}
"""By `model.family`."""

__all__ = ["BERT", "GPT", "MODELS", "Transformer", "initialise"]
