"""Where such systems went wrong: copies that drift apart, norms that count twice, sums that lose what is small.

Each docstring names the point of the project's list of them. Losses, gradients and parameters of whole layouts are in
`test_parity`, dropout in `test_dropout`, the vocabulary in `test_vocabulary`, what skips a step in `test_skipping`.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from megalith.arithmetic import parameters
from megalith.model import MODELS, initialise
from megalith.parallel import DistributedModel, Mesh, Optimizer, build_mesh, local, loss_weights, parallelize
from megalith.parallel.master_weights import region
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.tokens import TrainingWindows
from megalith.topology import AXES, layout_of
from tests.parallel.cells import FAMILIES, LENGTH, Cell, sample_batch
from tests.parallel.fakes import fake_ranks
from tests.parallel.parity import train_settings, whole
from tests.parallel.processes import on_ranks

STEPS, MANY = 4, 300
STEPPED = {
    2: [Cell(tensor=2, sequence_parallel=True), Cell("bert", tensor=2), Cell("bert", pipeline=2)],
    4: [
        Cell(tensor=2, pipeline=2, sequence_parallel=True),
        Cell("bert", tensor=2, pipeline=2, sequence_parallel=True),
        Cell(pipeline=2, data=2, zero=2, schedule="interleaved-1f1b"),
        Cell(tensor=2, data=2, zero=1, sequence_parallel=True),
        Cell("llama", tied=False, pipeline=4),
        Cell("post-norm bert", data=4, zero=3, zero_shard=2),
        Cell("qwen3", tensor=4),
        Cell("olmo2", tensor=4, sequence_parallel=True),
    ],
}
TWO_AXES = Cell(tensor=2, data=2, sequence_parallel=True)


def rank_main(rank: int, world: int) -> dict[str, Tensor]:
    """All that these tests want to know of a world."""
    found: dict[str, Tensor] = {}
    for number, cell in enumerate(STEPPED[world]):
        ranks = build_mesh(Mesh(rank, world), cell.parallel)
        model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.float32, seed=3)
        at_first = whole(model, [m.value for m in model.masters])
        found |= {f"{number}/first/{name}": value for name, value in at_first.items()}
        found |= {f"{number}/region/{m.name}": _own_of_whole(m.parameter) for m in model.masters}
        for master in model.masters:
            master.value.grad = torch.ones_like(master.value)
        found[f"{number}/norm"] = torch.tensor(model.gradient_norm())
    cell = STEPPED[world][0]
    found |= {f"after/{name}": value for name, value in _steps(cell, Mesh(rank, world)).items()}
    if world == 4:
        stepped = _steps(TWO_AXES, Mesh(rank, world))
        found |= {f"two axes/{name}": value for name, value in stepped.items()}
    if world == 2:
        for split in (False, True):
            cell = Cell(tensor=2, sequence_parallel=split)
            found[f"bias {split}"] = _out_of_biases(cell, build_mesh(Mesh(rank, world), cell.parallel))
        for zero in (0, 1, 2):
            found[f"bf16 {zero}"] = _many_small_gradients(Cell(data=2, zero=zero), Mesh(rank, world))
    return found


def _own_of_whole(parameter: torch.nn.Parameter) -> Tensor:
    """Whether this rank's piece is what torch's own gathering has at `region`."""
    if not isinstance(parameter, DTensor):
        return torch.tensor(True)
    return torch.tensor(torch.equal(parameter.full_tensor()[region(parameter)], local(parameter)))


def _steps(cell: Cell, ranks: Mesh) -> dict[str, Tensor]:
    """This rank's replicated pieces after some steps of training in bf16."""
    ranks = build_mesh(ranks, cell.parallel)
    model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.bfloat16, seed=3)
    optimizer = Optimizer(model.masters, train_settings())
    for step in range(STEPS):
        batches = [sample_batch(cell.model, step, first, 2) for first in (0, 2, 4, 6)]
        model.gradients.zero()
        model.forward_backward(batches, loss_weights([70.0], 1.0), [0] * 4)
        model.reduce_gradients()
        model.gradients.scale(1 / (1 + model.gradient_norm()))
        optimizer.update(0.01)
        model.copy_master_weights()
    return {m.name: m.value.detach().clone() for m in model.masters if _is_replicated(m.parameter) or _is_tied(m.name)}


def _is_replicated(parameter: torch.nn.Parameter) -> bool:
    return isinstance(parameter, DTensor) and all(each.is_replicate() for each in parameter.placements)


def _is_tied(name: str) -> bool:
    return name == "token_embedding.weight"


def _out_of_biases(cell: Cell, ranks: Mesh) -> Tensor:
    """Return the first layer's output for zeros, with all weights 0 and the biases of its row-split products 1."""
    model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.float32, seed=3)
    with torch.no_grad():
        for master in model.masters:
            ends = ("attention.output.bias", "mlp.down.bias")
            local(master.parameter).fill_(1.0 if master.name.endswith(ends) else 0.0)
    (stage,) = model.stages.values()
    length = LENGTH // 2 if cell.sequence_parallel else LENGTH
    out: Tensor = stage.numbered_layers[0](torch.zeros(1, length, cell.model.hidden))
    return out.detach()


def _many_small_gradients(cell: Cell, ranks: Mesh) -> Tensor:
    """By how much the gradients of 300 equal micro-batches differ from 300 times those of one."""
    config = cell.model.model_copy(update={"num_layers": 1})
    ranks = build_mesh(ranks, cell.parallel)
    model = parallelize(config, cell.parallel, ranks, dtype=torch.bfloat16, seed=3)
    batch = {name: value[:, :4] for name, value in sample_batch(config, 0, 0, 1).items()}
    taken = []
    for count in (1, MANY):
        model.gradients.zero()
        model.forward_backward([batch] * count, [1.0], [0] * count)
        model.reduce_gradients()
        gradients = [m.value.grad for m in model.masters if "layers" in m.name and not m.name.endswith("key.bias")]
        taken.append(torch.cat([each.flatten().clone() for each in gradients if each is not None]))
    return (taken[1] - MANY * taken[0]).norm() / (MANY * taken[0]).norm()


@pytest.fixture(scope="module")
def found() -> dict[int, list[dict[str, Tensor]]]:
    return {world: on_ranks(world, rank_main, world) for world in STEPPED}


each_layout = pytest.mark.parametrize(
    ("world", "number"), [(world, number) for world, cells in STEPPED.items() for number in range(len(cells))]
)


def test_the_copies_of_a_tied_embedding_stay_equal_to_the_bit(found: dict[int, list[dict[str, Tensor]]]) -> None:
    """Point 1: the last stage's copy; ranks 0 and 2 have the first half of the vocabulary, 1 and 3 the second."""
    tables = [rank["after/token_embedding.weight"] for rank in found[4]]
    assert torch.equal(tables[0], tables[2])
    assert torch.equal(tables[1], tables[3])
    assert not torch.equal(tables[0][:5], tables[1][:5])


@pytest.mark.parametrize("world", [2, 4])
def test_what_tensor_ranks_hold_alike_stays_equal_to_the_bit(
    found: dict[int, list[dict[str, Tensor]]], world: int
) -> None:
    """Point 3: norms and biases after row-split products see each rank's own tokens under sequence parallelism."""
    for first, second in ((0, 1), (2, 3))[: world // 2]:
        one, other = found[world][first], found[world][second]
        names = [name for name in one if name.startswith("after/") and not name.endswith("token_embedding.weight")]
        assert sum("norm" in name for name in names) >= 4
        assert sum(name.endswith(("attention.output.bias", "mlp.down.bias")) for name in names) >= 2
        for name in names:
            assert torch.equal(one[name], other[name]), name


def test_what_ranks_of_two_axes_hold_alike_stays_equal_to_the_bit(found: dict[int, list[dict[str, Tensor]]]) -> None:
    """Points 1 and 3 at once: norms see some of the tokens on each tensor rank some of the batch on each replica."""
    first, *others = ({n: t for n, t in rank.items() if n.startswith("two axes/")} for rank in found[4])
    table = "two axes/token_embedding.weight"
    assert sum("norm" in name for name in first) >= 4
    for number, other in enumerate(others, start=1):
        assert other.keys() == first.keys()
        for name in first.keys() - {table}:
            assert torch.equal(first[name], other[name]), (number, name)
    assert torch.equal(first[table], others[1][table]), "replicas have the same half of the vocabulary"
    assert torch.equal(others[0][table], others[2][table])


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_the_bias_of_a_row_split_product_is_added_once(
    found: dict[int, list[dict[str, Tensor]]], sequence_parallel: bool
) -> None:
    """Point 4: attention's and the MLP's, 1 each, however many ranks add."""
    for rank in found[2]:
        assert torch.equal(rank[f"bias {sequence_parallel}"], torch.full_like(rank[f"bias {sequence_parallel}"], 2.0))


def test_reading_samples_draws_from_no_generator_of_the_models() -> None:
    """Point 6."""
    before, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # the one others may use
    windows = TrainingWindows(np.arange(3000) % 300, 16, 7)
    windows.batch(0, 8)
    windows.batch(5000, 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpys)


@each_layout
def test_the_first_weights_are_those_of_one_process_to_the_bit(
    found: dict[int, list[dict[str, Tensor]]], world: int, number: int
) -> None:
    """Points 2, 7 and 8: interleaved stages draw apart, and the scale of residual projections knows all layers."""
    config = STEPPED[world][number].model
    model = MODELS[config.family](config)
    initialise(model, config, 3)
    first = {name: value for name, value in found[world][0].items() if name.startswith(f"{number}/first/")}
    assert len(first) == len(list(model.parameters()))
    for name, value in model.named_parameters():
        assert torch.equal(first[f"{number}/first/{name}"], value), name
    drawn = [first[f"{number}/first/layers.{layer}.attention.query.weight"] for layer in range(config.layers)]
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(drawn, 2))


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
def test_projections_into_the_residual_stream_are_scaled_by_all_layers_on_every_stage(rank: int) -> None:
    """Point 8: σ / √(2·L), with the L of the whole model, and not of the stage."""
    config = ModelConfig(num_layers=8, hidden_size=256, num_heads=4, vocab_size=300, sequence_length=16)
    parallel = ParallelConfig(tensor=1, pipeline=4, data=1)
    with fake_ranks(parallel, 4, rank) as ranks:
        model = parallelize(config, parallel, ranks, dtype=torch.float32, seed=1)
    for master in model.masters:
        if master.name.startswith("layers") and master.value.ndim == 2:
            scale = math.sqrt(2 * 8) if master.name.endswith(("attention.output.weight", "mlp.down.weight")) else 1.0
            # 65,536 draws and more: their deviation is known to 0.3 %, and 1 / √(2·2) would be 2 times as large
            assert float(master.value.detach().std()) == pytest.approx(config.weight_std / scale, rel=0.02), master.name


@each_layout
def test_the_norm_counts_every_parameter_once(
    found: dict[int, list[dict[str, Tensor]]], world: int, number: int
) -> None:
    """Point 9: with every gradient 1 its square is the number of parameters, wherever copies lie."""
    count = parameters(STEPPED[world][number].model).total
    for rank in found[world]:
        assert float(rank[f"{number}/norm"]) ** 2 == pytest.approx(count, rel=1e-6)


@each_layout
def test_a_ranks_region_is_where_torch_puts_its_piece(
    found: dict[int, list[dict[str, Tensor]]], world: int, number: int
) -> None:
    for rank in found[world]:
        regions = {name: value for name, value in rank.items() if name.startswith(f"{number}/region/")}
        assert regions
        assert all(bool(value) for value in regions.values()), regions


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_bf16_micro_batches_add_up_in_fp32(found: dict[int, list[dict[str, Tensor]]], zero: int) -> None:
    """Point 16: a bf16 sum of equal numbers stops growing at 256 times the first, and would be 15 % short."""
    for rank in found[2]:
        assert float(rank[f"bf16 {zero}"]) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cell", [Cell(), Cell(tensor=2, sequence_parallel=True), Cell(data=2, zero=3)], ids=str)
def test_weight_decay_moves_matrices_and_embeddings_and_nothing_else(family: str, cell: Cell) -> None:
    """Point 29: by rule, and not by a list of classes."""
    config = Cell(family).model
    with fake_ranks(cell.parallel, cell.world) as ranks:
        model = parallelize(config, cell.parallel, ranks, dtype=torch.float32, seed=1)
        moved = _moved_without_gradients(model)
    norms_and_biases = {name for name, p in MODELS[config.family](config).named_parameters() if p.ndim == 1}
    assert moved == {m.name for m in model.masters} - norms_and_biases
    assert all("norm" in name or name.endswith("bias") for name in norms_and_biases)
    assert "token_embedding.weight" in moved


def _moved_without_gradients(model: DistributedModel) -> set[str]:
    optimizer = Optimizer(model.masters, train_settings())
    with torch.no_grad():
        for master in model.masters:
            master.value.fill_(1.0)
            master.value.grad = torch.zeros_like(master.value)
    optimizer.update(0.1)
    return {m.name for m in model.masters if bool((m.value != 1.0).any())}


@pytest.mark.parametrize(
    "sizes", [(2, 2, 2, 1), (4, 1, 2, 1), (1, 4, 2, 1), (2, 4, 1, 1), (3, 2, 1, 1), (2, 1, 2, 2), (1, 2, 1, 4)]
)
def test_the_mesh_stands_as_the_rank_map_says(sizes: tuple[int, int, int, int]) -> None:
    """Point 30: tensor innermost, then context, data, pipeline outermost; planning and training place ranks alike."""
    tensor, pipeline, data, context = sizes
    parallel = ParallelConfig(tensor=tensor, pipeline=pipeline, data=data, context=context)
    layout = layout_of(parallel)
    assert AXES == ("pipeline", "data", "context", "tensor")
    for rank in range(layout.world):
        with fake_ranks(parallel, layout.world, rank) as ranks:
            place = layout.coordinates(rank)
            assert (ranks.index("pipeline"), ranks.data_index, ranks.context_index, ranks.index("tensor")) == place
            groups = {"pipeline": layout.group("pipeline", rank), "replicate": layout.gradient_group(rank),
                      "tensor": layout.group("tensor", rank)}  # fmt: skip
            for name, group in groups.items():
                assert tuple(ranks.submesh(name).mesh.tolist()) == group
            if context > 1:
                assert ranks.context_group is not None
                assert tuple(dist.get_process_group_ranks(ranks.context_group)) == layout.group("context", rank)
