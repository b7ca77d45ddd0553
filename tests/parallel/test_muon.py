"""Muon beside AdamW: which parameters it moves, what it keeps, and on how many ranks a matrix is orthogonalised.

That its steps are those of torch.optim.Muon on one process is in the parity table.
"""

import pytest
import torch
from torch import Tensor

from megalith.parallel import DistributedModel, Mesh, Optimizer, build_mesh, parallelize
from megalith.parallel import muon as module
from tests.parallel.cells import Cell
from tests.parallel.parity import train_settings
from tests.parallel.processes import on_ranks

CELL = Cell("qwen3", tensor=2, trained="muon")


def model_of(cell: Cell, ranks: Mesh) -> DistributedModel:
    return parallelize(cell.model, cell.parallel, ranks, dtype=torch.float32, seed=1)


def with_gradients(model: DistributedModel, seed: int) -> None:
    for number, master in enumerate(model.masters):
        random = torch.Generator().manual_seed(100 * seed + number)
        master.value.grad = torch.randn(master.value.shape, generator=random, dtype=master.value.dtype)


@pytest.mark.parametrize("family", ["gpt", "qwen3", "gopher", "bert"])
def test_muon_has_the_matrices_of_the_layers_and_adamw_the_rest(family: str) -> None:
    cell = Cell(family, tied=False, trained="muon")
    model = model_of(cell, Mesh())
    state = Optimizer(model.masters, train_settings("muon")).state()
    by_muon = {name.removesuffix(".momentum") for name in state if name.endswith(".momentum")}
    matrices = {m.name for m in model.masters if m.name.startswith("layers.") and m.value.ndim == 2}
    assert by_muon == matrices
    assert any("mlp" in name for name in matrices) and not any("embedding" in name for name in matrices)
    rest = {m.name for m in model.masters} - matrices
    assert set(state) == {f"{name}.momentum" for name in matrices} | {
        f"{name}.{moment}" for name in rest for moment in ("exp_avg", "exp_avg_sq")
    }


def test_an_optimizer_with_the_state_of_another_goes_on_as_it_does() -> None:
    one, other = (model_of(Cell("qwen3"), Mesh()) for _ in range(2))
    first, second = (Optimizer(each.masters, train_settings("muon")) for each in (one, other))
    for step in range(2):
        with_gradients(one, step)
        first.update(0.01)
    assert first.steps == 2
    second.steps = first.steps
    for own, found in zip(second.state().values(), first.state().values(), strict=True):
        own.copy_(found)
    for mine, master in zip(other.masters, one.masters, strict=True):
        mine.value.data.copy_(master.value)
    for model, optimizer in ((one, first), (other, second)):
        with_gradients(model, 3)
        optimizer.update(0.01)
    for mine, master in zip(other.masters, one.masters, strict=True):
        assert torch.equal(mine.value, master.value), mine.name


def counted(rank: int) -> dict[str, Tensor]:
    """How many matrices this rank orthogonalises in a step, and how many there are."""
    calls = []
    whole = module._newton_schulz
    module._newton_schulz = lambda update: calls.append(update.shape) or whole(update)  # type: ignore[func-returns-value]
    model = model_of(CELL, build_mesh(Mesh(rank, 2), CELL.parallel))
    optimizer = Optimizer(model.masters, train_settings("muon"))
    with_gradients(model, 1)
    optimizer.update(0.01)
    matrices = sum(map(module.is_hidden_matrix, model.masters))
    return {"calls": torch.tensor(len(calls)), "matrices": torch.tensor(matrices)}


def test_each_matrix_is_orthogonalised_on_one_of_the_ranks_that_share_it() -> None:
    found = on_ranks(2, counted)
    matrices = int(found[0]["matrices"])
    assert [int(each["calls"]) for each in found] == [-(-matrices // 2), matrices // 2]
