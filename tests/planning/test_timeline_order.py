"""The planner simulates what training runs: the order of real stages against the simulator's.

Three processes run the real pipeline of a small model by each schedule, and write down each pass of a stage as it
begins: what was computed, and not what any list says.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.parallel import Mesh, build_mesh, parallelize, pipeline
from megalith.planning.performance.pipeline_timeline import simulate
from megalith.recipe.machine import ParallelConfig
from megalith.schedules import NAMES, Action, Op, build, write_csv
from tests.parallel.cells import Cell, sample_batch
from tests.parallel.processes import on_ranks

PIPELINE, MICRO_BATCHES = 3, 6
OPS = list(Op)


def virtual(name: str) -> int:
    return 2 if name == "interleaved-1f1b" else 1


def rank_main(rank: int, folder: str) -> dict[str, Tensor]:
    """By schedule, the passes of this rank's stages as they began: rows of stage, operation, micro-batch."""
    begun: list[tuple[int, int, int]] = []
    write_down(begun)
    found = {}
    for name in NAMES:
        if name == "zb-h2":  # no recipe names it: it comes as a file of the user's
            chosen: dict[str, object] = {"schedule_file": Path(folder) / "zb-h2.csv"}
        else:
            chosen = {"schedule": name, "virtual_stages": virtual(name)}
        parallel = ParallelConfig(tensor=1, pipeline=PIPELINE, data=1, **chosen)  # type: ignore[arg-type]  # as a recipe's
        config = Cell(schedule="interleaved-1f1b").model  # of nine layers
        model = parallelize(config, parallel, build_mesh(Mesh(rank, PIPELINE), parallel), dtype=torch.float32, seed=1)
        batches = [sample_batch(config, 0, first, 1) for first in range(MICRO_BATCHES)]
        model.gradients.zero()
        begun.clear()
        model.forward_backward(batches, [0.1], [0] * MICRO_BATCHES)
        found[name] = torch.tensor(begun)
    return found


def write_down(begun: list[tuple[int, int, int]]) -> None:
    """Have every stage add to `begun` what it begins to compute."""

    class Watched(pipeline._Stage):
        def forward_one_chunk(self, fwd_chunk_id: int, *rest: Any, **named: Any) -> Any:
            begun.append((self.stage_index, OPS.index(Op.FORWARD), fwd_chunk_id))
            return super().forward_one_chunk(fwd_chunk_id, *rest, **named)

        def backward_one_chunk(
            self, bwd_chunk_id: int, loss: Any = None, full_backward: bool = True, **named: Any
        ) -> Any:
            op = Op.BACKWARD if full_backward else Op.INPUT_GRADIENT
            begun.append((self.stage_index, OPS.index(op), bwd_chunk_id))
            return super().backward_one_chunk(bwd_chunk_id, loss, full_backward, **named)

        def backward_weight_one_chunk(self, bwd_chunk_id: int, **named: Any) -> Any:
            begun.append((self.stage_index, OPS.index(Op.WEIGHT_GRADIENT), bwd_chunk_id))
            return super().backward_weight_one_chunk(bwd_chunk_id, **named)

    pipeline._Stage = Watched  # type: ignore[misc]  # in this process alone


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("order")
    write_csv(build("zb-h2", PIPELINE, 1, MICRO_BATCHES), folder / "zb-h2.csv")
    return on_ranks(PIPELINE, rank_main, str(folder))


@pytest.mark.parametrize("name", NAMES)
def test_training_takes_the_actions_of_each_rank_in_the_order_that_the_simulator_plays(
    run: list[dict[str, Tensor]], name: str
) -> None:
    lists = build(name, PIPELINE, virtual(name), MICRO_BATCHES)
    timeline = simulate(lists, {Op.FORWARD: 1.0, Op.INPUT_GRADIENT: 1.1, Op.WEIGHT_GRADIENT: 0.7}, 0.1)
    for rank, spans in enumerate(timeline.ranks):
        played = [str(span.action) for span in sorted(spans, key=lambda span: span.start_seconds)]
        executed = [str(Action(stage, OPS[op], number)) for stage, op, number in run[rank][name].tolist()]
        assert executed == played
