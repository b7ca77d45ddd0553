"""Torch's own reading of a schedule, without processes: its checks, its sends and receives, its dry run."""

from collections.abc import Sequence
from typing import Any

from torch.distributed.pipelining import schedules as torch_schedules

from megalith.schedules import Action


def as_torch(lists: Sequence[Sequence[Action]]) -> dict[int, list[Any]]:
    return {
        rank: [torch_schedules._Action.from_str(str(action)) for action in actions]
        for rank, actions in enumerate(lists)
    }


def lower(lists: Sequence[Sequence[Action]], pipeline: int, virtual_stages: int, micro_batches: int) -> int:
    """Lower the lists as the executor does and dry-run them; the number of sends. Raises what torch raises."""
    runtime = bare(torch_schedules._PipelineScheduleRuntime, pipeline, virtual_stages, micro_batches)
    runtime._prepare_schedule_with_comms(as_torch(lists), format="compute_only")
    with_sends = torch_schedules._add_send_recv(
        as_torch(lists), lambda stage: stage % pipeline, pipeline * virtual_stages
    )
    torch_schedules._simulate_comms_compute(with_sends, lambda stage: stage % pipeline, pipeline * virtual_stages)
    return sum(str(action.computation_type.value).startswith("SEND") for row in with_sends.values() for action in row)


def bare(kind: Any, pipeline: int, virtual_stages: int, micro_batches: int) -> Any:
    """One of torch's schedules with its sizes and no stages, models or processes."""
    schedule = kind.__new__(kind)
    schedule._stages = []
    schedule._n_microbatches = micro_batches
    schedule._num_stages = pipeline * virtual_stages
    schedule._defer_pp_recv = False
    schedule.pp_group_size = pipeline
    schedule.n_local_stages = virtual_stages
    schedule.microbatches_per_round = micro_batches // max(1, micro_batches // pipeline)
    return schedule
