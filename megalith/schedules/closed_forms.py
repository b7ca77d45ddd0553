"""The most forward passes that a pipeline rank is ahead of its backward passes, in closed form.

The closed forms are those of `schedules.build`; a test holds them against its lists. The schedules that only published
runs have are counted as their papers say.
"""

from functools import lru_cache


@lru_cache(maxsize=65536)
def most_in_flight(schedule: str, rank: int, pipeline: int, virtual_stages: int, micro_batches: int) -> int:
    """The most (stage, micro-batch) pairs whose activations the rank holds at once."""
    match schedule:
        case "gpipe":
            return micro_batches
        case "interleaved-1f1b" if virtual_stages > 1:
            return min(micro_batches * virtual_stages, 2 * (pipeline - rank - 1) + (virtual_stages - 1) * pipeline + 1)
        case "zb-h1":
            return min(micro_batches, pipeline)
        case "zb-h2":
            return min(micro_batches, 2 * pipeline - 1)
        case _:
            return min(micro_batches, pipeline - rank)
