"""The formulas against a count of what the spread model sends, and against the paper's sizes worked out by hand."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from megalith.job import Job
from megalith.parallel.mesh import Mesh, build_mesh
from megalith.parallel.parallelize import parallelize
from megalith.planning.performance.traffic import Traffic, ring_share, step_traffic
from megalith.recipe import ClusterConfig, ModelConfig, ParallelConfig, load_recipe
from megalith.topology import describe, layout_of

COLLECTIVES = {
    "all_reduce": "all_reduce", "allreduce_": "all_reduce",
    "reduce_scatter_tensor": "reduce_scatter", "_reduce_scatter_base_": "reduce_scatter",
    "all_gather_into_tensor": "all_gather", "_allgather_base_": "all_gather",
    "alltoall_base_": "all_to_all",
    "send": "send",
}  # fmt: skip


QWEN3 = {"positions": "rotary", "norm": "rmsnorm", "bias": False, "qkv_bias": True, "num_kv_heads": 2,
         "query_key_norm": "head", "head_size": 16}  # fmt: skip
OLMO2 = {"positions": "rotary", "norm": "rmsnorm", "bias": False, "num_kv_heads": 1, "query_key_norm": "whole",
         "layer_norm": "reordered"}  # fmt: skip


class Counted(TorchDispatchMode):
    """Collectives that are begun, and the bytes of their whole tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[str] = Counter()
        self.payload: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        namespace, name = str(function).split(".")[:2]
        if "c10d" in namespace and name in COLLECTIVES:
            self.times[COLLECTIVES[name]] += 1
            self.payload[COLLECTIVES[name]] += max(_tensor_bytes(each) for each in (*args, out))
        return out


def _tensor_bytes(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return int(value.nbytes)
    return sum(map(_tensor_bytes, value)) if isinstance(value, list) else 0


@pytest.fixture
def no_group() -> Iterator[None]:
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("no_group")
@pytest.mark.parametrize(
    ("rank", "micro_batches", "axes", "options"),
    [
        (0, 2, {"tensor": 2, "pipeline": 2, "data": 2}, {}),
        (11, 2, {"tensor": 2, "pipeline": 2, "data": 3}, {}),
        (0, 2, {"tensor": 2, "pipeline": 2, "data": 2, "sequence_parallel": True}, {}),
        (11, 2, {"tensor": 2, "pipeline": 2, "data": 3, "sequence_parallel": True}, {"tie_embeddings": False}),
        (0, 1, {"tensor": 4, "recompute": "full"}, {}),
        (0, 1, {"tensor": 4, "recompute": "full", "sequence_parallel": True}, {"dropout": 0.1}),
        (0, 2, {"tensor": 2, "pipeline": 2, "recompute": "full", "recompute_every": 2}, {"dropout": 0.1}),
        (1, 4, {"pipeline": 2, "virtual_stages": 2, "schedule": "interleaved-1f1b"}, {}),
        (0, 4, {"pipeline": 2, "virtual_stages": 3, "schedule": "interleaved-1f1b", "data": 2, "zero": 1}, {}),
        (3, 4, {"pipeline": 2, "virtual_stages": 3, "schedule": "interleaved-1f1b", "data": 2, "zero": 1}, {}),
        (1, 8, {"pipeline": 2, "virtual_stages": 5, "schedule": "interleaved-1f1b", "data": 2, "zero": 2},
         {"num_layers": 10}),
        (0, 3, {"data": 4, "zero": 1}, {}),
        (0, 3, {"data": 4, "zero": 3}, {"tie_embeddings": False}),
        (0, 2, {"data": 4, "zero": 2, "zero_shard": 2}, {}),
        (0, 2, {"tensor": 2, "data": 2, "zero": 2, "sequence_parallel": True}, {}),
        (3, 3, {"pipeline": 2, "data": 2, "zero": 2}, {}),
        (0, 2, {"tensor": 2, "data": 2}, {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu",
                                          "bias": False, "num_kv_heads": 2, "tie_embeddings": False}),
        (0, 2, {"tensor": 4, "data": 2}, QWEN3),
        (0, 2, {"tensor": 4, "sequence_parallel": True}, QWEN3),
        (0, 2, {"tensor": 4, "data": 2, "zero": 2}, QWEN3),
        (0, 2, {"tensor": 4, "data": 2, "zero": 1, "sequence_parallel": True}, QWEN3),
        (0, 1, {"tensor": 2, "recompute": "full"}, OLMO2),
        (0, 1, {"tensor": 2, "recompute": "full"}, {"layer_norm": "post"}),
        (0, 1, {"tensor": 2, "recompute": "full"}, {"parallel_residual": True}),
        (0, 2, {"tensor": 4, "pipeline": 2, "sequence_parallel": True}, OLMO2),
        (0, 2, {"tensor": 2}, {"family": "bert"}),
        (0, 2, {"tensor": 2, "sequence_parallel": True}, {"family": "bert"}),
        (5, 2, {"tensor": 2, "pipeline": 3}, {"family": "bert"}),
        (0, 2, {"data": 2, "zero": 1}, {"family": "bert"}),
        (0, 2, {"context": 2}, {}),
        (5, 3, {"context": 4, "data": 2, "zero": 2}, {}),
        (0, 2, {"context": 2, "tensor": 2, "sequence_parallel": True, "recompute": "full"}, QWEN3),
        (0, 2, {"context": 4, "zero": 3, "recompute": "full", "recompute_every": 2}, QWEN3),
        (3, 4, {"context": 2, "pipeline": 2, "virtual_stages": 2, "schedule": "interleaved-1f1b"}, OLMO2),
        (0, 2, {"context": 2, "tensor": 2, "recompute": "selective"},
         {"positions": "relative", "norm": "rmsnorm", "bias": False}),
    ],
)  # fmt: skip
def test_the_formulas_are_what_the_spread_model_sends(
    rank: int, micro_batches: int, axes: dict[str, object], options: dict[str, object]
) -> None:
    """Every collective of a step, forward, backward and reduction, on one rank of a group that sends nothing.

    (torch remembers its groups by the mesh, so a mesh is seen by one rank alone here.)
    """
    config = ModelConfig.model_validate(
        {"num_layers": 4, "hidden_size": 32, "num_heads": 4, "sequence_length": 152, "vocab_size": 300, **options}
    )
    parallel = ParallelConfig.model_validate({"tensor": 1, "pipeline": 1, "data": 1, **axes})
    layout = layout_of(parallel)
    world = layout.world
    dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
    model = parallelize(config, parallel, build_mesh(Mesh(rank, world), parallel), dtype=torch.bfloat16, seed=1)
    batch = {name: torch.zeros(2, 152, dtype=torch.long) for name in ("tokens", "targets")}
    if config.family == "bert":
        batch["targets"].view(-1)[round(0.15 * 2 * 152) :] = -100
        batch |= {"segments": batch["tokens"], "lengths": torch.full((2,), 152), "order": torch.zeros(2, dtype=int)}
    model.gradients.zero()
    with Counted() as counted:
        model.forward_backward([batch] * micro_batches, [1.0] * micro_batches, [0] * micro_batches)
        model.reduce_gradients()

    job = Job(
        config,
        describe(ClusterConfig(name="selene", nodes=2)),
        layout,
        micro_batch_size=2,
        global_batch_size=2 * micro_batches * layout.data,
        virtual_stages=parallel.virtual_stages,
        schedule=parallel.schedule,
        recompute=parallel.recompute,
        recompute_every=parallel.recompute_every,
        sequence_parallel=parallel.sequence_parallel,
        zero=parallel.zero,
        zero_shard=parallel.zero_shard,
        precision="bf16",
    )
    rows = step_traffic(job, rank * layout.pipeline // world)
    times, payload = Counter[str](), Counter[str]()
    for row in rows:
        times[row.collective] += row.count
        payload[row.collective] += row.payload_bytes
    assert times == counted.times
    assert payload == counted.payload


def mt_nlg(pipeline_rank: int, *overrides: str) -> dict[tuple[str, str, str], Traffic]:
    recipe, _ = load_recipe("mt-nlg-530b", overrides)
    job = replace(Job.of(recipe, describe(recipe.cluster)), global_batch_size=160 * (recipe.parallel.data or 1))
    rows = step_traffic(job, pipeline_rank)
    return {(row.axis, row.what, row.collective): row for row in rows}


HIDDEN, SEQUENCE, VOCAB = 20480, 2048, 51200


def test_a_layer_of_mt_nlg_costs_two_all_reduces_forward_two_backward_and_one_recomputed() -> None:
    """The recomputation stops before the layer's last sum, which the backward pass does not need without dropout."""
    row = mt_nlg(17)["tensor", "layers", "all_reduce"]
    each = SEQUENCE * HIDDEN * 2  # 83.9 MB of bf16
    assert row.count == 160 * 3 * (2 + 2 + 1)
    assert row.payload_bytes == row.count * each == 201_326_592_000
    assert row.wire_bytes == row.payload_bytes * 2 * 7 / 8
    kept = mt_nlg(17, "parallel.recompute=none")["tensor", "layers", "all_reduce"]
    assert kept.count == 160 * 3 * 4
    dropped = mt_nlg(17, "model.dropout=0.1")["tensor", "layers", "all_reduce"]
    assert dropped.count == 160 * 3 * 6


def test_mt_nlg_sends_its_stream_over_each_boundary_both_ways() -> None:
    first, middle, last = mt_nlg(0), mt_nlg(17), mt_nlg(34)
    each = SEQUENCE * HIDDEN * 2
    assert middle["pipeline", "activations", "send"].payload_bytes == 160 * each == 13_421_772_800
    assert middle["pipeline", "gradients", "send"].payload_bytes == 160 * each
    assert ("pipeline", "gradients", "send") not in first
    assert ("pipeline", "activations", "send") not in last
    split = mt_nlg(17, "parallel.sequence_parallel=true")
    assert split["pipeline", "activations", "send"].payload_bytes == 160 * each // 8


def test_mt_nlg_gradients_are_reduced_once_in_fp32() -> None:
    layer = (
        12 * HIDDEN**2 + 7 * HIDDEN
    ) // 8 + 6 * HIDDEN  # 4·h² and 8·h² split, with biases; two norms and two biases
    table, positions = VOCAB * HIDDEN // 8, SEQUENCE * HIDDEN
    key = ("data", "gradients", "all_reduce")
    assert mt_nlg(17)[key].payload_bytes == 4 * 3 * layer == 7_551_436_800
    assert mt_nlg(0)[key].payload_bytes == 4 * (3 * layer + table + positions)
    assert mt_nlg(34)[key].payload_bytes == 4 * (3 * layer + 2 * HIDDEN + table)
    assert mt_nlg(17)[key].wire_bytes == 7_551_436_800 * 2 * 11 / 12


def test_the_tied_embedding_is_summed_at_the_ends_of_the_pipeline_alone() -> None:
    key = ("ends", "embedding", "all_reduce")
    assert mt_nlg(0)[key] == mt_nlg(34)[key]
    assert mt_nlg(0)[key].payload_bytes == 4 * VOCAB * HIDDEN // 8 == 524_288_000
    assert key not in mt_nlg(17)
    assert key not in mt_nlg(0, "model.tie_embeddings=false")


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_ring_sends_what_a_ring_sends(size: int) -> None:
    """A reduce-scatter played: in each step every rank adds one of `size` pieces to its neighbour's."""
    added = [[{rank} for _ in range(size)] for rank in range(size)]
    steps = 0
    while not all(any(len(piece) == size for piece in own) for own in added):
        sent = [added[rank][(rank - steps) % size] for rank in range(size)]
        for rank in range(size):
            added[(rank + 1) % size][(rank - steps) % size] |= sent[rank]
        steps += 1
    assert ring_share("reduce_scatter", size) == ring_share("all_gather", size) == steps / size
    assert ring_share("all_reduce", size) == 2 * steps / size
    assert Traffic("tensor", "x", "all_reduce", size, 3, 1).hops == 3 * 2 * steps
    assert Traffic("pipeline", "x", "send", 2, 3, 1).hops == 3
