"""One layer, against what 2205.05198 measured of it (Table 4), and what of it follows from counting."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.job import Job
from megalith.planning.performance import Constants, predict_step
from megalith.planning.performance.collectives import ALONE, all_reduce_seconds, group, half_seconds
from megalith.planning.performance.constants import constants_for
from megalith.planning.performance.layer_time import LayerSeconds, Means, layer_seconds, layer_work
from megalith.planning.performance.traffic import step_traffic
from megalith.schedules import layers_of_stages
from megalith.topology import Layout, accelerator
from tests.planning.performance.jobs import GPT_22B, job, selene

A100 = accelerator("A100-SXM-80GB")
assert A100 is not None
MEANS = Means(A100, "bf16", None, "flash-2", tensor_overlap=False, cuda_graphs=False, stops_early=False)


def layer(recompute: str, *, split: bool = False) -> LayerSeconds:
    """A 22B layer on eight ranks, micro-batch 4."""
    work = layer_work(GPT_22B, 4, 8, 1, split, False, A100)
    known = constants_for(job(Layout(8, 1, 1)))
    return layer_seconds(work, recompute, split, False, group(selene(1), 8, 1), ALONE, MEANS, known)


def test_the_products_of_a_layer_are_the_flops_of_arithmetic() -> None:
    work = layer_work(GPT_22B, 2, 4, 1, False, False, A100)
    tokens = 2 * GPT_22B.sequence_length
    flops = 4 * (sum(one.flops for one in work.forward) + work.attention_flops)
    assert flops == pytest.approx(tokens * layer_forward_flops(GPT_22B))
    for backward in (work.input_gradient, work.weight_gradient):
        assert sum(one.flops for one in backward) == pytest.approx(sum(one.flops for one in work.forward))
    assert head_forward_flops(GPT_22B) == 2 * GPT_22B.hidden * GPT_22B.padded_vocab_size


def test_the_scores_of_unfused_attention_go_through_memory_and_fused_ones_do_not() -> None:
    plain = layer_work(GPT_22B, 1, 8, 1, False, False, A100)
    fused = layer_work(GPT_22B, 1, 8, 1, False, True, A100)
    assert plain.score_bytes == 10 * 8 * 2048 * 2048
    assert fused.score_bytes == 0
    # the causal mask's upper half is not computed, but for blocks of 128 on the diagonal
    assert fused.attention_flops == plain.attention_flops / 2 * (1 + 128 / 2048)


def test_a_bert_model_has_no_mask_of_which_a_kernel_could_skip_half() -> None:
    bert = GPT_22B.model_copy(update={"family": "bert"})
    plain, fused = (layer_work(bert, 1, 8, 1, False, fusion, A100) for fusion in (False, True))
    assert fused.attention_flops == plain.attention_flops


def test_the_kernel_of_attention_is_its_softwares() -> None:
    """FlashAttention-2 leaves a Hopper at 35 % of its peak, cuDNN's kernel at 58 % (2407.08608)."""
    hopper = accelerator("H100-SXM-80GB")
    assert hopper is not None
    work = layer_work(GPT_22B, 4, 8, 1, False, True, hopper)
    known = Constants()
    seconds = {}
    for kernel in ("flash-2", "cudnn"):
        means = MEANS._replace(device=hopper, kernel=kernel)
        seconds[kernel] = layer_seconds(work, "selective", False, True, ALONE, ALONE, means, known).recompute
    assert seconds["flash-2"] == pytest.approx(work.attention_flops / (0.35 * 989.5e12))
    assert seconds["cudnn"] == pytest.approx(work.attention_flops / (0.58 * 989.5e12))


def test_products_hide_the_tensor_axis_only_where_the_software_sends_beside_them() -> None:
    work = layer_work(GPT_22B, 4, 8, 1, True, True, A100)
    over, known = group(selene(1), 8, 1), Constants()
    waits = layer_seconds(work, "none", True, True, over, ALONE, MEANS, known)
    hides = layer_seconds(work, "none", True, True, over, ALONE, MEANS._replace(tensor_overlap=True), known)
    assert hides.tensor_forward == pytest.approx(0.45 * waits.tensor_forward)
    assert hides.tensor_backward < waits.tensor_backward
    assert hides.forward == waits.forward


def test_fp8_is_for_the_products_alone_and_its_casts_cost_memory() -> None:
    hopper = accelerator("H100-SXM-80GB")
    assert hopper is not None
    work = layer_work(GPT_22B, 1, 1, 1, False, True, hopper)
    assert work.cast_bytes == 4 * 2048 * (3 * 6144 + 24576)
    means = MEANS._replace(device=hopper)
    seconds = [
        layer_seconds(work, "selective", False, True, ALONE, ALONE, means._replace(fp8=fp8), Constants())
        for fp8 in (None, "tensor")
    ]
    assert seconds[1].forward < 0.7 * seconds[0].forward
    assert seconds[1].recompute == seconds[0].recompute  # attention stays as it was
    free = layer_seconds(
        work._replace(cast_bytes=0.0), "none", False, True, ALONE, ALONE, means._replace(fp8="tensor"), Constants()
    )
    assert seconds[1].forward - free.forward == pytest.approx(work.cast_bytes / (3350e9 * Constants().memory))


def test_sequence_parallelism_splits_what_every_rank_did_alike() -> None:
    plain = layer_work(GPT_22B, 1, 8, 1, False, False, A100)
    split = layer_work(GPT_22B, 1, 8, 1, True, False, A100)
    assert plain.element_bytes - split.element_bytes == pytest.approx(24 * 7 / 8 * 2048 * 6144)


def test_a_recomputed_layer_is_computed_once_more() -> None:
    none, full, selective = layer("none"), layer("full"), layer("selective")
    assert full.recompute == pytest.approx(full.forward)
    assert full.tensor_recompute == pytest.approx(full.tensor_forward)
    assert none.recompute == 0 < selective.recompute < full.recompute / 2


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("split", [False, True])
def test_our_own_recomputation_pays_for_the_messages_that_the_traffic_counts(split: bool, dropout: float) -> None:
    """Seconds of the tensor axis are those of the bytes of `traffic` on the same links, recomputed ones alike."""
    model = GPT_22B.model_copy(update={"dropout": dropout})
    asked = job(Layout(8, 2, 1), model, stack="megalith", recompute="full", sequence_parallel=split, precision="bf16")
    plain = replace(asked, recompute="none")

    def sent(one: Job) -> float:
        return sum(row.wire_bytes for row in step_traffic(one, 0) if row.what == "layers")

    recomputed = predict_step(asked).parts["tensor communication"] - predict_step(plain).parts["tensor communication"]
    over = group(selene(2), 8, 1)
    one_way = half_seconds(float(asked.compute_bytes * 2048 * 6144), over, constants_for(asked))
    sums = (sent(asked) - sent(plain)) / (2048 * 6144 * 2 * 7 / 8)
    layers = len(layers_of_stages(model, 2)[0]) * asked.micro_batches
    if split:  # a layer that is not recomputed gathers its products' inputs again, beside other products
        sums += 2 * layers
    assert sums == layers * ((3 if split else 2) + (1 if split and dropout else 2 if dropout else 0))
    if split:
        assert recomputed == pytest.approx(sums * one_way)
    else:
        assert recomputed == pytest.approx(sums / 2 * all_reduce_seconds(2.0 * 2048 * 6144, over, constants_for(asked)))


@pytest.mark.data
def test_the_milliseconds_of_a_22b_layer_are_near_the_published_ones(data_directory: Path) -> None:
    with (data_directory / "measurements" / "seqsel_table4_layer_ms.csv").open() as file:
        published = {row["experiment"]: row for row in csv.DictReader(file)}
    named = {
        "no recompute": ("none", False),
        "full recompute": ("full", False),
        "selective + sequence": ("selective", True),
    }
    for experiment, (recompute, split) in named.items():
        made = layer(recompute, split=split)
        forward = made.forward + made.tensor_forward
        backward = made.input_gradient + made.weight_gradient + made.tensor_backward
        backward += made.recompute + made.tensor_recompute
        assert (forward + backward) * 1e3 == pytest.approx(float(published[experiment]["combined_ms"]), rel=0.12)
