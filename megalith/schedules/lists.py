"""The action lists that a recipe asks for: a named schedule's, or those of the user's file."""

from megalith.recipe.machine import ParallelConfig
from megalith.schedules.actions import Action, Lists, Op
from megalith.schedules.build import build
from megalith.schedules.check import check
from megalith.schedules.files import read_csv


def action_lists(parallel: ParallelConfig, micro_batches: int, *, training: bool) -> Lists:
    """The lists that the pipeline's ranks execute; without training, the forward passes alone."""
    pipeline, virtual = parallel.pipeline or 1, parallel.virtual_stages
    if not training:
        stages = range(pipeline * virtual)
        return tuple(
            tuple(
                Action(stage, Op.FORWARD, number) for number in range(micro_batches) for stage in stages[rank::pipeline]
            )
            for rank in range(pipeline)
        )
    if parallel.schedule_file is not None:
        own = read_csv(parallel.schedule_file, pipeline)
        check(own, pipeline, virtual, micro_batches, where=str(parallel.schedule_file))
        return own
    return build(parallel.schedule, pipeline, virtual, micro_batches)
