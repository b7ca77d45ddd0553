"""The split: which documents are held out from training, for validation and for the tasks."""

from collections.abc import Sequence

from megalith.curation.draw import draw


def held_out(ids: Sequence[str], share: float, seed: int) -> set[str]:
    """The ids of the documents that are held out: each by its own draw.

    Of two or more documents at least one is held out and at least one is not, whatever the draws.
    """
    drawn = sorted((draw(seed, "held out", name), name) for name in set(ids))
    if len(drawn) < 2:
        return set()
    chosen = {name for number, name in drawn if number < share}
    return (chosen | {drawn[0][1]}) - {drawn[-1][1]}
