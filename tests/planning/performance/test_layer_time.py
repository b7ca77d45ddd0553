"""One layer, against what 2205.05198 measured of it (Table 4), and what of it follows from counting."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.job import Job
from megalith.planning.performance import predict_step
from megalith.planning.performance.collectives import ALONE, all_reduce_seconds, group, half_seconds
from megalith.planning.performance.constants import constants_for
from megalith.planning.performance.layer_time import LayerSeconds, layer_seconds, layer_work
from megalith.planning.performance.traffic import step_traffic
from megalith.schedules import layers_of_stages
from megalith.topology import Layout, accelerator
from tests.planning.performance.jobs import GPT_22B, job, selene

A100 = accelerator("A100-SXM-80GB")
assert A100 is not None
PEAK = A100.peak("bf16")


def layer(recompute: str, *, split: bool = False) -> LayerSeconds:
    """A 22B layer on eight ranks, micro-batch 4."""
    work = layer_work(GPT_22B, 4, 8, 1, split, False, A100)
    known = constants_for(job(Layout(8, 1, 1)))
    return layer_seconds(work, recompute, split, False, group(selene(1), 8, 1), ALONE, PEAK, A100, known)


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
    assert fused.attention_flops == plain.attention_flops / 2  # the causal mask's upper half is not computed


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
