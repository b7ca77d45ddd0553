"""Tokens: the byte-level BPE, shards in Megatron's format, and the order in which training reads them."""

from megalith.tokens.loader import IGNORE, TrainingWindows, ValidationWindows
from megalith.tokens.shards import Shards, ShardWriter, write_shards
from megalith.tokens.tokenize import tokenize
from megalith.tokens.tokenizer import END_OF_TEXT, Tokenizer, load_tokenizer, train_tokenizer, utf8_bytes

__all__ = [
    "END_OF_TEXT",
    "IGNORE",
    "ShardWriter",
    "Shards",
    "Tokenizer",
    "TrainingWindows",
    "ValidationWindows",
    "load_tokenizer",
    "tokenize",
    "train_tokenizer",
    "utf8_bytes",
    "write_shards",
]
