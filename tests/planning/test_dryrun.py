"""The dry run against the real run on gloo, against the planner's formulas, and against figures worked out by hand."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.errors import RecipeError
from megalith.job import Job
from megalith.model import MODELS
from megalith.parallel import Mesh, build_mesh
from megalith.planning import dryrun as room
from megalith.planning.dryrun import dryrun
from megalith.planning.dryrun.fakes import FakeTensors, fake_ranks, forget_meshes
from megalith.planning.dryrun.kernels import gpu_kernels
from megalith.planning.dryrun.step import begin
from megalith.planning.dryrun.watch import Watch
from megalith.planning.performance.traffic import step_traffic
from megalith.recipe import Recipe, load_recipe
from megalith.topology import describe, layout_of
from tests.parallel.processes import on_ranks
from tests.planning.performance.memory.jobs import LLAMA

QWEN3 = LLAMA | {"query_key_norm": "head", "head_size": 16, "qkv_bias": True}
OLMO2 = LLAMA | {"num_kv_heads": 1, "query_key_norm": "whole", "layer_norm": "reordered"}
PYTHIA = {"positions": "rotary", "rotary_fraction": 0.25, "parallel_residual": True, "tie_embeddings": False}


def tiny(parallel: dict[str, Any], model: dict[str, Any] | None = None, **train: Any) -> Recipe:
    """A recipe of a small model, in bf16."""
    shape = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "sequence_length": 64, "vocab_size": 299}
    axes = {"tensor": 1, "pipeline": 1, "data": 1}
    return Recipe.model_validate(
        {
            "name": "tiny",
            "about": "tiny",
            "model": shape | {"vocab_multiple": 4} | (model or {}),
            "parallel": axes | parallel,
            "train": {"global_batch_size": 8, "micro_batch_size": 1, "precision": "bf16", "tokens": 10**6} | train,
            "tokenize": {"vocab_size": 299},
        }
    )


def on_gpus(recipe: Recipe) -> Recipe:
    """The same on one node of them."""
    place = recipe.cluster.model_copy(update={"name": "dgx-a100", "accelerators_per_node": world(recipe)})
    return recipe.model_copy(update={"cluster": place})


def dry(recipe: Recipe, *ranks: int, stages: bool = False) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = dryrun(recipe, ranks, stages=stages)["ranks"]
    return rows


def world(recipe: Recipe) -> int:
    return layout_of(recipe.parallel).world


def sent(row: dict[str, Any]) -> dict[str, list[int]]:
    keys = ("axis", "what", "collective", "pass", "group_size")
    return {
        "/".join(str(each[key]) for key in keys): [each["count"], each["payload_bytes"]] for each in row["collectives"]
    }


@pytest.mark.parametrize(
    ("parallel", "model"),
    [
        ({"tensor": 2, "pipeline": 2, "sequence_parallel": True}, LLAMA),
        ({"pipeline": 2, "data": 2, "zero": 1}, {}),
        ({"tensor": 2, "data": 2, "zero": 3}, {"family": "bert"}),
        ({"pipeline": 2, "virtual_stages": 2, "schedule": "interleaved-1f1b"}, {"num_layers": 4}),
        ({"tensor": 4}, QWEN3),
        ({"tensor": 2, "data": 2, "zero": 3}, OLMO2),
        ({"tensor": 2, "pipeline": 2}, PYTHIA),
    ],
)
def test_the_parts_of_all_ranks_are_the_whole_model(parallel: dict[str, Any], model: dict[str, Any]) -> None:
    recipe = tiny(parallel, model)
    found = 0
    for rank in range(world(recipe)):
        with fake_ranks(rank, world(recipe)) as ranks:
            placed = build_mesh(ranks, recipe.parallel)
            watch = Watch(placed)
            with FakeTensors(), watch.watching():
                masters = begin(recipe, placed, watch).model.masters
                found += sum(master.value.numel() for master in masters if master.counted)
    assert found == parameters(recipe.model).total


def test_zero_gathers_layers_for_both_passes_and_embeddings_once_in_the_type_of_the_layers() -> None:
    recipe = tiny({"data": 2, "zero": 3}, LLAMA | {"num_layers": 3})
    (row,) = dry(recipe)
    counted = parameters(recipe.model)
    layers, tables, norm = counted.layers, 2 * 300 * 32, 32
    gathers = {key: amount for key, amount in sent(row).items() if "all_gather" in key}
    assert gathers == {
        "data/weights/all_gather/forward/2": [4 * 5, 4 * 2 * (layers + tables + norm)],
        "data/weights/all_gather/backward/2": [4 * 4, 4 * 2 * (layers + norm)],
    }


@pytest.mark.parametrize(
    ("parallel", "model"),
    [
        ({}, {}),
        ({"tensor": 2, "pipeline": 2, "data": 2, "zero": 3}, LLAMA),
        ({"pipeline": 2, "data": 2}, {}),
        ({"tensor": 2, "sequence_parallel": True}, QWEN3),
    ],
)
def test_the_host_waits_for_one_number_a_step_and_nothing_is_gathered_in_fp32(
    parallel: dict[str, Any], model: dict[str, Any]
) -> None:
    recipe = on_gpus(tiny(parallel, model))
    for row in dry(recipe, stages=True):
        share = 8 // (parallel.get("data", 1))
        assert row["host"] == {
            "waits": {"parallel/distributed_model: agree": 1},
            "copies": {"count": 2 * share, "payload_bytes": 2 * share * 64 * 8},  # tokens and targets
            "fp32_gathers": {"count": 0, "payload_bytes": 0},
        }


def test_a_bert_waits_for_the_places_of_its_masked_tokens_too() -> None:
    (row,) = dry(on_gpus(tiny({}, {"family": "bert"})))
    assert row["host"]["waits"] == {"model/bert: forward": 8, "parallel/distributed_model: agree": 1}


def test_what_fp32_layers_gather_is_told() -> None:
    (row,) = dry(tiny({"data": 2, "zero": 1}, precision="fp32"))
    assert row["host"]["fp32_gathers"]["payload_bytes"] == sent(row)["data/weights/all_gather/forward/2"][1]


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_the_embedding_is_summed_over_tensor_ranks_in_the_type_of_the_layers(sequence_parallel: bool) -> None:
    recipe = tiny({"tensor": 2, "sequence_parallel": sequence_parallel}, LLAMA)
    payloads = [each[1] for key, each in sent(dry(recipe)[0]).items() if key.startswith("tensor/embedding/")]
    assert payloads == [8 * 64 * 32 * 2] * (1 + sequence_parallel)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("mt-nlg-530b", []),
        ("gpt3-175b", ["parallel.tensor=8", "parallel.pipeline=16", "parallel.data=8", "cluster.name=selene",
                       "cluster.nodes=128"]),
        ("llama-8b", ["parallel.tensor=2", "parallel.pipeline=4", "parallel.data=2", "cluster.name=dgx-h100",
                      "cluster.nodes=2"]),
    ],
)  # fmt: skip
def test_the_stages_of_a_large_model_are_the_whole_model(name: str, overrides: list[str]) -> None:
    recipe, _ = load_recipe(name, overrides)
    count = (recipe.parallel.pipeline or 1) * recipe.parallel.virtual_stages
    assert room._parameters_of_stages(recipe.model, count) == parameters(recipe.model).total


def test_the_last_stage_of_mt_nlg_takes_what_pencil_and_paper_say() -> None:
    """MT-NLG §2: 105 layers of 20,480 over 35 stages of 8 ranks. 18 bytes a parameter; 16 where weights are fp32."""
    found = dryrun(load_recipe("mt-nlg-530b")[0], [3264])
    (row,) = found["ranks"]
    hidden, table, norm = 20480, 51200 * 20480 // 8, 2 * 20480
    narrow = 3 * ((12 * hidden**2 + 7 * hidden) // 8 + 6 * hidden) + norm
    assert row["parameters"] == narrow + table
    assert row["bytes"] == {
        "weights": 2 * narrow + 4 * table,
        "masters": 4 * narrow,
        "gradients": 4 * (narrow + table),
        "optimizer": 8 * (narrow + table),
    }
    assert (row["stage"], row["layers"], row["node"]) == (34, [102, 103, 104], 408)
    assert row["all_reduces_per_layer"] == {"forward": 2, "backward": 2, "recomputation": 1}
    assert 36e9 < row["peak_bytes"] < 39e9
    assert row["fits"]
    assert sum(row["peak"].values()) == row["peak_bytes"]
    assert found["parameters"] == 529_600_819_200


REAL = (
    tiny({"tensor": 2, "pipeline": 2, "recompute": "full"}),
    tiny({"tensor": 2, "data": 2}),
    tiny({"tensor": 2, "data": 2, "zero": 3, "sequence_parallel": True}, LLAMA),
)


def _real_steps(rank: int) -> dict[str, Tensor]:
    """A step of each, on real tensors over gloo, under the same watch."""
    found = {}
    for number, recipe in enumerate(REAL):
        forget_meshes()
        ranks = build_mesh(Mesh(rank, 4), recipe.parallel)
        watch = Watch(ranks)
        with watch.watching():
            training = begin(recipe, ranks, watch)
            training.take_step(2)
            training.take_step(8 // (recipe.parallel.data or 1))
        for m, amount in watch.collectives.sent.items():
            key = f"{number}/{m.axis}/{m.what}/{m.collective}/{m.when}/{len(m.ranks)}"
            found[key] = torch.tensor([amount.count, amount.payload_bytes])
        found[f"{number}/peak"] = torch.tensor(list(watch.storages.at_peak().values()))
    return found


def test_the_real_run_on_gloo_sends_the_same_messages_and_takes_the_same_memory() -> None:
    """But for a few losses to the byte; only that gloo keeps what a pipeline has sent until the step is over."""
    real = on_ranks(4, _real_steps)
    for number, recipe in enumerate(REAL):
        for row in dry(recipe, 0, 3):
            found = real[row["rank"]]
            own = {
                key.removeprefix(f"{number}/"): each.tolist() for key, each in found.items() if key[0] == str(number)
            }
            peak = sum(own.pop("peak"))
            assert own == sent(row)
            kept = sum(each["payload_bytes"] for each in row["collectives"] if each["collective"] == "send")
            assert 0 <= peak - row["peak_bytes"] <= 256 + kept
            assert recipe.parallel.pipeline == 2 or peak - row["peak_bytes"] <= 64


@pytest.mark.parametrize(
    ("parallel", "model"),
    [
        ({"tensor": 2, "pipeline": 4, "data": 2}, {"num_layers": 5}),
        ({"tensor": 2, "pipeline": 2, "sequence_parallel": True, "recompute": "full"}, LLAMA | {"dropout": 0.1}),
        ({"tensor": 4}, QWEN3),
        ({"tensor": 4, "recompute": "full", "sequence_parallel": True}, OLMO2),
        ({"tensor": 2, "context": 2, "recompute": "full", "sequence_parallel": True}, QWEN3),
        ({"context": 4, "zero": 3}, OLMO2),
    ],
)
def test_the_planners_formulas_give_the_same_messages(parallel: dict[str, Any], model: dict[str, Any]) -> None:
    recipe = tiny(parallel, model)
    for row in dry(recipe, stages=True):
        counted: dict[tuple[str, ...], Counter[str]] = {}
        for each in row["collectives"]:
            if each["axis"] != "all":
                total = counted.setdefault((each["axis"], each["what"], each["collective"]), Counter())
                total.update(count=each["count"], payload=each["payload_bytes"])
        rows = step_traffic(Job.of(recipe, describe(recipe.cluster)), row["stage"])
        assert counted == {
            (each.axis, each.what, each.collective): Counter(count=each.count, payload=each.payload_bytes)
            for each in rows
        }


@pytest.mark.parametrize(
    "parallel",
    [
        {"pipeline": 2, "recompute": "full"},
        {"pipeline": 2, "schedule": "zb-h1"},
        {"pipeline": 2, "virtual_stages": 2, "schedule": "interleaved-1f1b"},
        {"pipeline": 2, "data": 2, "zero": 1},
        {"pipeline": 2, "virtual_stages": 4, "schedule": "interleaved-1f1b", "data": 2, "zero": 3},
        {"data": 2, "zero": 3},
    ],
    ids=str,
)
def test_a_few_micro_batches_stand_for_the_whole_step(
    parallel: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts and bytes are the whole step's; its peak differs by a few losses, numbers of 8 bytes."""
    virtual = parallel.get("virtual_stages", 1)
    recipe = tiny(parallel, {"num_layers": 2 * virtual}, global_batch_size=8 * virtual)
    short = dry(recipe, stages=True)
    share = short[0]["micro_batches"]
    monkeypatch.setattr(room, "_lengths", lambda job, rank: (2 * (recipe.parallel.pipeline or 1), share))
    for few, whole in zip(short, dry(recipe, stages=True), strict=True):
        assert few["micro_batches_run"] < whole["micro_batches_run"] == share
        assert sent(few) == sent(whole)
        assert few["all_reduces_per_layer"] == whole["all_reduces_per_layer"]
        assert abs(whole["peak_bytes"] - few["peak_bytes"]) <= 64 * share


@pytest.mark.slow
def test_every_stage_of_mt_nlg_fits_its_gpu() -> None:
    """35 stages on 80 GB (MT-NLG §2): most is held by the first, which has the embedding and 35 micro-batches."""
    found = dryrun(load_recipe("mt-nlg-530b")[0], stages=True)
    assert found["fits"]
    first, middle, last = found["ranks"]
    assert first["peak_bytes"] > middle["peak_bytes"] > last["peak_bytes"]
    assert [row["micro_batches_run"] for row in found["ranks"]] == [36, 19, 3]
    stream = 2048 * 20480 * 2
    assert 35 * 4 * stream < first["peak"]["activations"] < 35 * 4 * stream + 2 * stream


def test_no_rank_is_taken_for_another_one() -> None:
    """torch remembers meshes, and takes those of two ranks for the same one."""
    recipe = tiny({"tensor": 2, "pipeline": 2})
    (alone,) = dry(recipe, 3)
    first, last = dry(recipe, 0, 3)
    assert {**last, "seconds": 0} == {**alone, "seconds": 0}
    assert (first["layers"], last["layers"]) == ([0], [1])


def test_a_layer_more_keeps_what_autograd_saves_for_it() -> None:
    """A single process, counted by autograd's own hooks on a real model. What the loss has in hand at the peak is the
    same whatever the number of layers."""
    saved, seen = [], []
    for layers in (2, 5):
        recipe = tiny({}, {"num_layers": layers, "sequence_length": 128}, precision="fp32", micro_batch_size=4)
        model = MODELS["gpt"](recipe.model)
        own = {each.untyped_storage().data_ptr() for each in model.parameters()}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, own: set[int] = own, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        tokens = torch.zeros(4, 128, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = model(tokens, tokens)
        assert loss.isfinite()
        saved.append(sum(kept.values()))
        seen.append(dry(recipe)[0]["peak"]["activations"])
    assert seen[1] - seen[0] == pytest.approx(saved[1] - saved[0], rel=1e-3)


def test_a_gpu_keeps_no_scores_and_a_mask_of_bools() -> None:
    with FakeTensors(), gpu_kernels():
        q = torch.empty(1, 2, 512, 64, dtype=torch.bfloat16, requires_grad=True)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            y = torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1, is_causal=True)
            z = torch.nn.functional.dropout(y, 0.1, training=True)
            torch.nn.functional.rms_norm(z, (64,), torch.ones(64))
    assert max(each.numel() for each in kept) == q.numel()
    assert torch.bool in {each.dtype for each in kept}
    assert not [each for each in kept if each.dtype == torch.float32 and each.numel() >= q.numel()]


def test_what_is_computed_again_on_a_gpu_keeps_the_same() -> None:
    recipe = tiny({"tensor": 2, "data": 4, "recompute": "full"}, {"dropout": 0.1} | LLAMA)
    cluster = recipe.cluster.model_copy(update={"name": "dgx-a100"})
    (row,) = dry(recipe.model_copy(update={"cluster": cluster}))
    assert row["all_reduces_per_layer"] == {"forward": 2, "backward": 2, "recomputation": 2}
    assert row["peak_bytes"] % 512 == 0


def test_what_cannot_be_is_refused_with_the_mend() -> None:
    with pytest.raises(RecipeError, match=r"left open .*parallel.tensor=N"):
        dryrun(load_recipe("gpt2-124m")[0])
    with pytest.raises(RecipeError, match=r"rank 4 is not one of the 4 ranks.* Use 0 to 3"):
        dry(tiny({"pipeline": 2, "data": 2}), 4)
    with pytest.raises(RecipeError, match=r"2240 ranks, and 420 nodes of 8 are 3360.*parallel.data=12"):
        dryrun(load_recipe("mt-nlg-530b", ["parallel.data=8"])[0])
