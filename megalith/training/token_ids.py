"""Ids beyond the model's vocabulary, refused before the first step.

Under tensor parallelism nobody else would notice: such a token is in no rank's rows, is embedded as zeros, and counts
as if its logit were the largest.
"""

from pathlib import Path

import numpy as np

from megalith.artifacts import Artifact
from megalith.console import progress
from megalith.errors import InputError
from megalith.recipe import Recipe
from megalith.tokens import open_split
from megalith.tokens.blending import shard_name

_BLOCK_TOKENS = 2**24


def refuse_ids_beyond_the_vocabulary(recipe: Recipe, tokens: Artifact) -> None:
    """Raise InputError for an id in the training or validation shards that is not below model.vocab_size.

    Shards of a vocabulary that fits, as their artifact says, are not read for it.
    """
    vocab_size, made_for = recipe.model.vocab_size, tokens.facts.get("vocab_size")
    if isinstance(made_for, int) and made_for <= vocab_size:
        return
    names = [shard_name(each) for each in recipe.mixture.datasets] or ["train"]
    with progress() as bar:
        task = bar.add_task("Looking at every id", total=None)
        done = 0
        for name in (*names, "validation"):
            stream = open_split(tokens.path, name).stream
            for first in range(0, len(stream), _BLOCK_TOKENS):
                block = stream[first : first + _BLOCK_TOKENS]
                if block.min() < 0 or block.max() >= vocab_size:
                    place = int(np.argmax((block < 0) | (block >= vocab_size)))
                    _refuse(tokens.path, name, first + place, int(block[place]), vocab_size)
                done += len(block)
                bar.update(task, completed=done)


def _refuse(tokens: Path, name: str, place: int, number: int, vocab_size: int) -> None:
    raise InputError(
        f"token {place:,} of the shards {name} is {number}, and model.vocab_size is {vocab_size}.",
        where=str(tokens),
        mend="Set model.vocab_size to the size of the vocabulary that the shards were made with, or tokenize again.",
    )
