"""One layer, against what 2205.05198 measured of it (Table 4), and what of it follows from counting."""

import csv
from pathlib import Path

import pytest

from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.planning.performance.collectives import ALONE, group
from megalith.planning.performance.constants import constants_for
from megalith.planning.performance.layer_time import LayerSeconds, layer_seconds, layer_work, shape_of
from megalith.topology import Layout, accelerator
from tests.planning.performance.jobs import GPT_22B, job, selene

A100 = accelerator("A100-SXM-80GB")
assert A100 is not None
PEAK = A100.peak("bf16")


def layer(recompute: str, *, split: bool = False) -> LayerSeconds:
    """A 22B layer on eight ranks, micro-batch 4."""
    work = layer_work(shape_of(GPT_22B), 4, 8, 1, split, False, A100)
    known = constants_for(job(Layout(8, 1, 1)))
    return layer_seconds(work, recompute, split, False, group(selene(1), 8, 1), ALONE, PEAK, A100, known)


def test_the_products_of_a_layer_are_the_flops_of_arithmetic() -> None:
    work = layer_work(shape_of(GPT_22B), 2, 4, 1, False, False, A100)
    tokens = 2 * GPT_22B.sequence_length
    flops = 4 * (sum(one.flops for one in work.forward) + work.attention_flops)
    assert flops == pytest.approx(tokens * layer_forward_flops(GPT_22B))
    for backward in (work.input_gradient, work.weight_gradient):
        assert sum(one.flops for one in backward) == pytest.approx(sum(one.flops for one in work.forward))
    assert head_forward_flops(GPT_22B) == 2 * GPT_22B.hidden * GPT_22B.padded_vocab_size


def test_the_scores_of_unfused_attention_go_through_memory_and_fused_ones_do_not() -> None:
    plain = layer_work(shape_of(GPT_22B), 1, 8, 1, False, False, A100)
    fused = layer_work(shape_of(GPT_22B), 1, 8, 1, False, True, A100)
    assert plain.score_bytes == 10 * 8 * 2048 * 2048
    assert fused.score_bytes == 0
    assert fused.attention_flops == plain.attention_flops / 2  # the causal mask's upper half is not computed


def test_sequence_parallelism_splits_what_every_rank_did_alike() -> None:
    plain = layer_work(shape_of(GPT_22B), 1, 8, 1, False, False, A100)
    split = layer_work(shape_of(GPT_22B), 1, 8, 1, True, False, A100)
    assert plain.element_bytes - split.element_bytes == pytest.approx(24 * 7 / 8 * 2048 * 6144)


def test_a_recomputed_layer_is_computed_once_more() -> None:
    none, full, selective = layer("none"), layer("full"), layer("selective")
    assert full.recompute == pytest.approx(full.forward)
    assert full.tensor_recompute == pytest.approx(full.tensor_forward)
    assert none.recompute == 0 < selective.recompute < full.recompute / 2


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
