"""The heads of keys and values that a tensor-parallel rank's queries look at."""

import math

from megalith.recipe.model import ModelConfig

KeyHeads = tuple[int, ...]
"""Numbers of heads in order: one for all queries of a rank, or one for each of its queries."""


def key_heads(model: ModelConfig, ranks: int, rank: int) -> KeyHeads | None:
    """The heads of keys and values of a rank; None where they are split, so that each rank has its own.

    `ranks` divide the heads of the queries.
    """
    if not shares_key_heads(model, ranks):
        return None
    own, group = model.heads // ranks, model.heads // model.kv_heads
    if group % own == 0:
        return (rank * own // group,)
    return tuple(head // group for head in range(rank * own, (rank + 1) * own))


def shares_key_heads(model: ModelConfig, ranks: int) -> bool:
    """Whether ranks have heads of keys and values in common."""
    return model.kv_heads % ranks != 0


def key_heads_on_a_rank(model: ModelConfig, ranks: int) -> int:
    """Heads of keys that a rank's attention takes, copies for each query among them."""
    if not shares_key_heads(model, ranks):
        return model.kv_heads // ranks
    own, group = max(1, model.heads // ranks), model.heads // model.kv_heads
    return 1 if group % own == 0 else own


def exchanged_key_heads(heads: int, ranks: int) -> int:
    """Heads of keys that `ranks` exchange, of which each gets an even part, where a rank has `heads` before.

    They are copies of these where the ranks do not divide them: as few as come out even.
    """
    return math.lcm(heads, ranks)


def key_heads_computed(model: ModelConfig, ranks: int) -> int:
    """Heads of keys that the ranks with most of them compute."""
    if not shares_key_heads(model, ranks):
        return model.kv_heads // ranks
    own, group = max(1, model.heads // ranks), model.heads // model.kv_heads
    latest = group - math.gcd(own, group)  # the place in its group at which some rank's queries begin
    return (latest + own - 1) // group + 1
