"""Tokens: the byte-level BPE, shards in Megatron's format, and the order in which training reads them."""

from megalith.tokens.blend import Blend
from megalith.tokens.conventions import END_OF_TEXT, GENERATION, Conventions
from megalith.tokens.loader import IGNORE, TrainingWindows, ValidationWindows
from megalith.tokens.masked import MaskedBatch, MaskedWindows, ValidationMaskedWindows
from megalith.tokens.shards import Shards, ShardWriter, Slice, write_shards
from megalith.tokens.splits import open_split
from megalith.tokens.take import take_shards
from megalith.tokens.tokenize import tokenize
from megalith.tokens.tokenizer import (
    BERT_TOKENS,
    SpecialTokens,
    Tokenizer,
    load_tokenizer,
    train_tokenizer,
    utf8_bytes,
)

__all__ = [
    "BERT_TOKENS",
    "END_OF_TEXT",
    "GENERATION",
    "IGNORE",
    "Blend",
    "Conventions",
    "MaskedBatch",
    "MaskedWindows",
    "ShardWriter",
    "Shards",
    "Slice",
    "SpecialTokens",
    "Tokenizer",
    "TrainingWindows",
    "ValidationMaskedWindows",
    "ValidationWindows",
    "load_tokenizer",
    "open_split",
    "take_shards",
    "tokenize",
    "train_tokenizer",
    "utf8_bytes",
    "write_shards",
]
