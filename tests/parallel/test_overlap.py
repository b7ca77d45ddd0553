"""Gradients of data-parallel ranks are summed in buckets under the backward pass, in one order."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp._fully_shard import _fsdp_param_group as fsdp

from megalith.parallel import DistributedModel, Mesh, build_mesh, loss_weights, parallelize, pipeline
from megalith.parallel import data_parallel as room
from megalith.parallel.data_parallel import FlatGradients
from tests.parallel.cells import Cell, sample_batch
from tests.parallel.processes import on_ranks

BUCKET = 3000
CELLS = {
    "data": Cell(data=2),
    "tied pipeline": Cell(pipeline=2, data=2),
    "interleaved": Cell(pipeline=2, data=2, schedule="interleaved-1f1b"),
    "zero bubble": Cell(pipeline=2, data=2, schedule="zb-h1"),
    "sequence parallel": Cell(tensor=2, data=2, sequence_parallel=True, recompute="full"),
}


def gradients_of(model: DistributedModel, cell: Cell) -> Tensor:
    """A step's gradients, without the update."""
    first = 4 * model.ranks.data_index
    batches = [sample_batch(cell.model, 0, first + number, 1) for number in range(4)]
    model.gradients.zero()
    model.forward_backward(batches, loss_weights([100.0]), [0] * 4)
    model.reduce_gradients()
    assert isinstance(model.gradients, FlatGradients)
    return model.gradients.flat.clone()


def rank_main(rank: int, world: int, names: list[str]) -> dict[str, Tensor]:
    """By cell: gradients of one bucket and of several, and how many of the latter go out under the backward pass."""
    torch.set_default_dtype(torch.float64)
    found: dict[str, Tensor] = {}
    for name in names:
        cell = CELLS[name]
        ranks = build_mesh(Mesh(rank, world), cell.parallel)
        for kind, size in (("whole", 2**23), ("cut", BUCKET)):
            room.GRADIENT_BUCKET = size
            model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.float64, seed=1)
            found[f"{name} {kind}"], under = watched_gradients_of(model, cell)
            found[f"{name} {kind} again"] = gradients_of(model, cell)
        found[f"{name} under"] = torch.tensor(under)
        found[f"{name} buckets"] = torch.tensor(-(-found[f"{name} cut"].numel() // BUCKET))
        dist.barrier()
    return found


def watched_gradients_of(model: DistributedModel, cell: Cell) -> tuple[Tensor, int]:
    """A step's gradients, and the all-reduces that go out before the backward pass comes to its last parameter.

    Not by torch's profiler: started and stopped this often beside gloo's threads it has been seen to abort its process.
    """
    order: list[str] = []
    all_reduce = dist.all_reduce

    def watched(*arguments: Any, **settings: Any) -> Any:
        order.append("all-reduce")
        return all_reduce(*arguments, **settings)

    parameters = [each for stage in model.stages.values() for each in stage.parameters() if each.requires_grad]
    hooks = [each.register_hook(lambda gradient: order.append("gradient")) for each in parameters]  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with patch.object(dist, "all_reduce", watched):
        found = gradients_of(model, cell)
    for hook in hooks:
        hook.remove()
    last = len(order) - order[::-1].index("gradient") if "gradient" in order else 0
    return found, order[:last].count("all-reduce")


@pytest.mark.parametrize("world", [2, 4])
def test_buckets_go_out_under_the_backward_pass_and_change_no_gradient(world: int) -> None:
    names = [name for name, cell in CELLS.items() if cell.world == world]
    for rank in on_ranks(world, rank_main, world, names):
        for name in names:
            assert torch.equal(rank[f"{name} cut"], rank[f"{name} cut again"])
            torch.testing.assert_close(rank[f"{name} cut"], rank[f"{name} whole"], rtol=1e-12, atol=1e-15)
            if world == 2:  # a sum of two is the same in either order
                assert torch.equal(rank[f"{name} cut"], rank[f"{name} whole"])
            assert rank[f"{name} buckets"] > 4
            if name == "data":
                assert rank[f"{name} under"] == rank[f"{name} buckets"] - 4  # those of the embeddings come last
            elif name in ("tied pipeline", "interleaved"):
                assert rank[f"{name} under"] > 0


def sharded_main(rank: int) -> dict[str, Tensor]:
    """Calls of a rank with two stages under ZeRO-1: 0, a backward pass; 1, a reduction; 2, a wait for all of them."""
    cell = Cell("llama", pipeline=2, data=2, zero=1, schedule="interleaved-1f1b")
    model = parallelize(
        cell.model, cell.parallel, build_mesh(Mesh(rank, 4), cell.parallel), dtype=torch.float32, seed=1
    )
    order: list[int] = []

    def noted(owner: Any, name: str, kind: int) -> Any:
        call = getattr(owner, name)

        def noting(*arguments: Any, **settings: Any) -> Any:
            order.append(kind)
            return call(*arguments, **settings)

        return patch.object(owner, name, noting)

    batches = [sample_batch(cell.model, 0, 4 * model.ranks.data_index + number, 1) for number in range(4)]
    group = fsdp.FSDPParamGroup
    model.gradients.zero()
    with (
        noted(pipeline._Stage, "backward_one_chunk", 0),
        noted(fsdp, "foreach_reduce", 1),
        noted(group, "finalize_backward", 2),
    ):
        model.forward_backward(batches, loss_weights([100.0]), [0] * 4)
    groups = [list(pipeline._fsdp_groups(stage)) for stage in model.stages.values()]
    allowed = [own[0].comm_ctx.reduce_scatter_max_input_buffers for own in groups]
    units = [len(own) for own in groups]
    return {"order": torch.tensor(order), "allowed": torch.tensor(allowed), "units": torch.tensor(units)}


def test_a_stages_sharded_gradients_are_under_way_while_the_ranks_other_stage_computes() -> None:
    for found in on_ranks(4, sharded_main):
        order = found["order"].tolist()
        last_backward = len(order) - order[::-1].index(0)
        assert order.count(0) == 8
        assert order[:last_backward].count(1) >= 2
        assert 2 not in order[:last_backward]
        assert order[-1] == 2
        assert order.count(1) == found["units"].sum()
        assert (found["allowed"] >= found["units"]).all()  # none waits for the one before it


def one_too_many(rank: int) -> dict[str, Tensor]:
    """Whether a gradient that comes after a bucket has gone is refused."""
    cell = CELLS["data"]
    model = parallelize(
        cell.model, cell.parallel, build_mesh(Mesh(rank, 2), cell.parallel), dtype=torch.float32, seed=1
    )
    model.gradients.zero()
    model.gradients.before_micro_batch(last=True)
    (stage,) = model.stages.values()
    refused = 0
    for number in range(2):
        batch = dict(sample_batch(cell.model, 0, number, 1))
        try:
            stage(batch.pop("tokens"), **batch).sum().backward()
        except RuntimeError as error:
            refused += "after its last" in str(error)
    model.gradients.reduce()
    return {"refused": torch.tensor(refused)}


def test_a_gradient_after_the_last_is_refused_and_not_lost() -> None:
    assert all(found["refused"] == 1 for found in on_ranks(2, one_too_many))
