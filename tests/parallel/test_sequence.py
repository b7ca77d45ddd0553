"""Products under sequence parallelism keep a rank's own tokens, and gather the others' again for the backward pass."""

from collections import Counter
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from megalith.parallel import parallelize
from megalith.parallel.master_weights import local
from megalith.parallel.sequence import GatheredProducts
from tests.parallel.cells import LENGTH, Cell, sample_batch
from tests.parallel.fakes import collectives, fake_ranks

SAMPLES, WIDTH, RANKS = 2, 32, 2
CELL = Cell("llama", tied=False, tensor=RANKS, sequence_parallel=True)


def a_pass(cell: Cell, layers: int, backend: Any = None) -> list[int]:
    """A micro-batch in fp32, forward and backward on one rank; gives the sizes of what is kept between the two."""
    config = cell.model.model_copy(update={"num_layers": layers})
    batch = sample_batch(config, 0, 0, SAMPLES)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(local(tensor).numel())
        return tensor

    with fake_ranks(cell.parallel, cell.world) as ranks:
        (stage,) = parallelize(config, cell.parallel, ranks, dtype=torch.float32, seed=1).stages.values()
        if backend is not None:
            torch._dynamo.reset()  # what other tests have compiled
            for block in stage.numbered_layers.values():
                block.compile(backend=backend)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = stage(batch["tokens"], **{name: value for name, value in batch.items() if name != "tokens"})
        losses.sum().backward()
    return kept


def test_a_layer_keeps_no_tokens_of_other_ranks() -> None:
    """Tensors as large as the whole stream, which nothing else in this model is."""
    whole = SAMPLES * LENGTH * WIDTH
    two, three = (Counter(a_pass(CELL, layers)) for layers in (2, 3))
    assert (three - two)[whole] == 0
    assert (three - two)[whole // RANKS] > 0


def grown(what: str) -> Counter[str]:
    """The collectives of a backward pass of two products that is asked for `what` alone."""
    with fake_ranks(CELL.parallel, CELL.world) as ranks:
        mesh = ranks.submesh("tensor")
        layers = nn.ModuleList(nn.Linear(WIDTH, 8) for _ in range(2))
        parallelize_module(layers, mesh, {"0": ColwiseParallel(), "1": ColwiseParallel()})
        x = torch.randn(SAMPLES, LENGTH // RANKS, WIDTH, requires_grad=True)
        y, z = GatheredProducts(mesh, keeps_whole=False)(x * 1, *layers)
        assert y.shape == z.shape == (SAMPLES, LENGTH, 8 // RANKS)
        wanted = {"input": [x], "weights": list(layers.parameters()), "both": [x, *layers.parameters()]}[what]
        return collectives(lambda: torch.autograd.grad((y + z).sum(), wanted))


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("input", {"reduce_scatter": 1}),
        ("weights", {"all_gather": 1}),
        ("both", {"all_gather": 1, "reduce_scatter": 1}),
    ],
)
def test_each_half_of_a_split_backward_pass_sends_what_it_needs(what: str, sent: dict[str, int]) -> None:
    assert grown(what) == sent


def test_a_compiled_layer_gathers_again_in_its_backward_pass_and_keeps_no_gathered_input() -> None:
    """A compiler that sees two gathers of the same tokens would do one of them, or both in the forward pass."""
    found: dict[str, tuple[int, list[tuple[int, ...]]]] = {}

    def seen(name: str) -> Any:
        def look(module: Any, _: Any) -> Any:
            gathers = sum("all_gather_into_tensor" in str(node.target) for node in module.graph.nodes)
            results = next(iter(module.graph.find_nodes(op="output"))).args[0]
            kept = [each.meta["val"] for each in results if "val" in getattr(each, "meta", {})]
            found[name] = gathers, [tuple(each.shape) for each in kept if isinstance(each, Tensor)]
            return make_boxed_func(module.forward)

        return look

    backend = aot_autograd(
        fw_compiler=seen("forward"), bw_compiler=seen("backward"), partition_fn=min_cut_rematerialization_partition
    )
    a_pass(CELL, 2, backend=backend)
    assert found["forward"][0] == 2
    assert found["backward"][0] == 4
    rows = SAMPLES * LENGTH
    assert (SAMPLES, LENGTH // RANKS, WIDTH) in found["forward"][1]
    assert not {(rows, WIDTH), (SAMPLES, LENGTH, WIDTH)} & set(found["forward"][1])
