"""Dropout depends on the run, the step, the sample and the layer, and on the layout only where it must.

Hard points 5 and 24: residual and embedding dropout alike on tensor-parallel ranks, attention's own apart, both as in
one process under pipelines, schedules and data parallelism; and drawn again alike where activations are recomputed.
"""

import itertools
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.parallel import DistributedModel, Mesh, build_mesh, dropout_seed, parallelize
from tests.parallel.cells import LENGTH, SEQUENCES, Cell, sample_batch
from tests.parallel.parity import whole
from tests.parallel.processes import on_ranks

MICRO_BATCH, RATE = 2, 0.25
ALONE = {layers: Cell(schedule=schedule) for layers, schedule in ((3, "1f1b"), (5, "interleaved-1f1b"))}
AS_ONE_PROCESS = {
    2: [
        Cell(data=2),
        Cell(data=2, zero=3),
        Cell(pipeline=2),
        Cell(pipeline=2, schedule="zb-h1"),
        Cell(pipeline=2, schedule="interleaved-1f1b"),
        Cell(data=2, recompute="full"),
        Cell(pipeline=2, recompute="selective"),
    ],
    4: [Cell(pipeline=2, data=2, schedule="gpipe"), Cell(pipeline=2, data=2, zero=1, recompute="full")],
}


def spread_with_dropout(cell: Cell, ranks: Mesh) -> DistributedModel:
    config = cell.model.model_copy(update={"dropout": RATE})
    return parallelize(config, cell.parallel, build_mesh(ranks, cell.parallel), dtype=torch.get_default_dtype(), seed=1)


def gradients(model: DistributedModel, cell: Cell, micro_batch: int = MICRO_BATCH) -> dict[str, Tensor]:
    """Return the whole gradients of a step over all samples, and the summed loss."""
    ranks = model.ranks
    firsts = range(ranks.data_index * micro_batch, SEQUENCES, micro_batch * ranks.data_size)
    model.gradients.zero()
    batches = [sample_batch(cell.model, 0, first, micro_batch) for first in firsts]
    sums = model.forward_backward(batches, [0.01], [dropout_seed(1, 1, first) for first in firsts])
    model.reduce_gradients()
    (loss,) = ranks.sum(*sums.tolist())
    return whole(model, [m.value.grad for m in model.masters]) | {"loss": torch.tensor(loss)}


class Masks:
    """Return the mask of each residual and attention dropout, in the order of the forward pass."""

    def __init__(self, model: DistributedModel) -> None:
        self.residual: list[Tensor] = []
        self.attention: list[Tensor] = []
        (stage,) = model.stages.values()
        stage.dropout.register_forward_hook(self._see)
        for block in stage.numbered_layers.values():
            block.attention_dropout.register_forward_hook(self._see)
            block.mlp_dropout.register_forward_hook(self._see)

    def _see(self, module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.residual.append((output == 0) & (inputs[0] != 0))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        """In place of torch's attention: uniform, over values of 1, so that what comes out counts what was kept."""
        seen = _attention(torch.zeros_like(q), torch.zeros_like(k), torch.ones_like(v), **options)
        self.attention.append(seen.detach()[..., 0])
        return seen * v

    def taken(self) -> dict[str, Tensor]:
        return {"residual": torch.stack(self.residual), "attention": torch.stack(self.attention)}


_attention = F.scaled_dot_product_attention


def masks_of(cell: Cell, ranks: Mesh, step: int = 1, sample: int = 0) -> dict[str, Tensor]:
    model = spread_with_dropout(cell, ranks)
    masks = Masks(model)
    with mock.patch.object(F, "scaled_dot_product_attention", masks.attend):
        model.forward_backward([sample_batch(cell.model, 0, 0, MICRO_BATCH)], [0.01], [dropout_seed(1, step, sample)])
    return masks.taken()


def rank_main(rank: int, world: int) -> dict[str, Tensor]:
    """All that these tests want to know of a world."""
    torch.set_default_dtype(torch.float64)
    found: dict[str, Tensor] = {}
    ranks = Mesh(rank, world)
    for number, cell in enumerate(AS_ONE_PROCESS[world]):
        found |= named(f"layout {number}", gradients(spread_with_dropout(cell, ranks), cell))
    if world == 2:
        for split in (False, True):
            found |= named(f"masks {split}", masks_of(Cell(tensor=2, sequence_parallel=split), ranks))
            for recompute in ("none", "selective", "full"):
                again = Cell(tensor=2, sequence_parallel=split, recompute=recompute)
                key = f"{recompute} {split}"
                found |= named(key, gradients(spread_with_dropout(again, ranks), again))
    return found


def named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def of(found: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}/"): each for name, each in found.items() if name.startswith(f"{prefix}/")}


@pytest.fixture(scope="module")
def found() -> dict[int, Sequence[dict[str, Tensor]]]:
    return {world: on_ranks(world, rank_main, world) for world in AS_ONE_PROCESS}


@pytest.fixture
def fp64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("world", "number"), [(world, number) for world, cells in AS_ONE_PROCESS.items() for number in range(len(cells))]
)
@pytest.mark.usefixtures("fp64")
def test_pipelines_schedules_and_data_parallel_ranks_drop_what_one_process_drops(
    found: dict[int, Sequence[dict[str, Tensor]]], world: int, number: int
) -> None:
    cell = ALONE[AS_ONE_PROCESS[world][number].model.layers]
    oracle = gradients(spread_with_dropout(cell, Mesh()), cell)
    here = of(found[world][0], f"layout {number}")
    assert here.keys() == oracle.keys()
    for name, value in oracle.items():  # one other mask would show in the second digit
        torch.testing.assert_close(here[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.usefixtures("fp64")
def test_samples_drop_alike_in_micro_batches_of_any_size(recompute: str) -> None:
    cell = Cell(recompute=recompute)
    one, *larger = (gradients(spread_with_dropout(cell, Mesh()), cell, size) for size in (1, 2, 4))
    for found in larger:
        for name, value in one.items():  # one other mask would show in the second digit
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_attention_drops_apart_on_tensor_parallel_ranks(
    found: dict[int, Sequence[dict[str, Tensor]]], sequence_parallel: bool
) -> None:
    first, second = (of(rank, f"masks {sequence_parallel}")["attention"] for rank in found[2])
    assert first.shape == second.shape
    assert all(not torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_residuals_drop_alike_on_tensor_parallel_ranks(found: dict[int, Sequence[dict[str, Tensor]]]) -> None:
    """The embedding's dropout and two a layer."""
    first, second = (of(rank, "masks False")["residual"] for rank in found[2])
    assert len(first) == 1 + 2 * Cell().model.layers
    assert 0.2 < first.double().mean() < 0.3
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_tensor_parallel_ranks_drop_the_residuals_of_one_process(
    found: dict[int, Sequence[dict[str, Tensor]]],
) -> None:
    alone = masks_of(Cell(), Mesh())["residual"]
    assert torch.equal(of(found[2][0], "masks False")["residual"], alone)


def test_under_sequence_parallelism_each_rank_drops_of_its_own_tokens(
    found: dict[int, Sequence[dict[str, Tensor]]],
) -> None:
    first, second = (of(rank, "masks True")["residual"] for rank in found[2])
    assert first.shape[2] == LENGTH // 2
    assert all(not torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_every_layer_sample_and_step_drops_its_own() -> None:
    layers = Cell().model.layers
    runs = [masks_of(Cell(), Mesh(), step, sample) for step, sample in ((1, 0), (1, 2), (2, 0))]
    for kind in ("residual", "attention"):
        every = [mask for run in runs for mask in run[kind]]
        assert len(every) == 3 * (1 + 2 * layers if kind == "residual" else layers * MICRO_BATCH)
        assert all(not torch.equal(one, other) for one, other in itertools.combinations(every, 2))
    again = masks_of(Cell(), Mesh(), 2, 0)
    assert torch.equal(again["residual"], runs[2]["residual"])


@pytest.mark.parametrize("sequence_parallel", [False, True])
@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_under_tensor_parallelism_gives_the_same_gradients_to_the_bit(
    found: dict[int, Sequence[dict[str, Tensor]]], recompute: str, sequence_parallel: bool
) -> None:
    kept, again = (of(found[2][0], f"{how} {sequence_parallel}") for how in ("none", recompute))
    assert kept.keys() == again.keys()
    assert all(torch.equal(again[name], value) for name, value in kept.items())


@pytest.mark.parametrize("recompute", ["selective", "full"])
def test_recomputation_gives_the_same_gradients_to_the_bit(recompute: str) -> None:
    cells = Cell(), Cell(recompute=recompute)
    kept, again = (gradients(spread_with_dropout(cell, Mesh()), cell) for cell in cells)
    assert all(torch.equal(again[name], value) for name, value in kept.items())


def test_scoring_drops_nothing() -> None:
    batch = sample_batch(Cell().model, 0, 0, MICRO_BATCH)
    model = spread_with_dropout(Cell(), Mesh())
    plain = parallelize(Cell().model, Cell().parallel, Mesh(), dtype=torch.float32, seed=1)
    assert torch.equal(model.evaluate([batch]), plain.evaluate([batch]))
    assert all(stage.training for stage in model.stages.values())
