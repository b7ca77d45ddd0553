"""A whole step: its parts, its schedule, the data axis, and how it moves when the layout does."""

import math
from dataclasses import replace

import pytest

from megalith.arithmetic import parameters
from megalith.planning.performance import constants_for, predict_step
from megalith.planning.performance import step_time as step_module
from megalith.planning.performance.layer_time import EXPOSED_REDUCTION
from megalith.planning.performance.pipeline_timeline import simulate
from megalith.planning.performance.stacks import stack_of
from megalith.planning.performance.stage_time import deal_of
from megalith.recipe import ClusterConfig, ModelConfig
from megalith.schedules import build, deal_evenly, layers_of_stages
from megalith.topology import Layout, describe
from tests.planning.performance.jobs import GPT_175B, job


@pytest.mark.parametrize("exact", [True, False])
def test_the_parts_add_up_to_the_step(exact: bool) -> None:
    asked = job(Layout(8, 4, 2), GPT_175B, recompute="full", virtual_stages=2, schedule="interleaved-1f1b")
    found = predict_step(asked, exact=exact)
    assert sum(found.parts.values()) == pytest.approx(found.seconds)
    assert min(found.parts.values()) >= 0
    assert found.interval[0] < found.seconds < found.interval[1]


@pytest.mark.parametrize(("schedule", "virtual"), [("1f1b", 1), ("gpipe", 1), ("interleaved-1f1b", 3)])
def test_the_closed_form_is_what_the_lists_take(schedule: str, virtual: int) -> None:
    asked = job(Layout(8, 4, 2), GPT_175B, virtual_stages=virtual, schedule=schedule)
    assert predict_step(asked, exact=False).seconds == pytest.approx(predict_step(asked).seconds, rel=0.01)


@pytest.mark.parametrize("micro_batches", [1, 2, 5, 7, 8, 16])
def test_fewer_micro_batches_leave_fewer_weight_gradients_to_fill_the_bubble_with(micro_batches: int) -> None:
    model = ModelConfig(num_layers=64, hidden_size=12288, num_heads=96, sequence_length=2048, vocab_size=128)
    asked = job(Layout(1, 8, 1), model, global_batch_size=micro_batches, schedule="zb-h1", stack="megalith")
    assert predict_step(asked, exact=False).seconds == pytest.approx(predict_step(asked).seconds, rel=0.02)


@pytest.mark.parametrize(("schedule", "virtual"), [("1f1b", 1), ("interleaved-1f1b", 2), ("zb-h1", 1), ("zb-h2", 1)])
def test_a_schedule_played_in_part_takes_as_long_as_the_whole(schedule: str, virtual: int) -> None:
    count = 92 if virtual > 1 else 94  # an interleaved schedule takes whole rounds; the others need not
    asked = job(Layout(8, 4, 1), GPT_175B, global_batch_size=count, virtual_stages=virtual, schedule=schedule)
    found = predict_step(asked)
    lists = build(schedule, 4, virtual, asked.micro_batches)
    whole = simulate(lists, found.durations, found.send_seconds).step_seconds
    pieces = ("computing", "recomputation", "tensor communication", "pipeline sends", "pipeline bubble")
    assert sum(found.parts[name] for name in pieces) == pytest.approx(whole, rel=2e-3)


def test_the_bubble_of_equal_stages_is_the_papers() -> None:
    model = ModelConfig(num_layers=64, hidden_size=12288, num_heads=96, sequence_length=2048, vocab_size=128)
    asked = job(Layout(1, 8, 1), model, global_batch_size=64, stack="megalith")
    constants = replace(constants_for(asked), network=1e9, launch_seconds=0.0)
    found = predict_step(asked, constants, exact=False)
    assert found.bubble_fraction == pytest.approx(7 / (64 + 7), rel=0.02)  # 2104.04473 §2.2.1


def test_sends_that_wait_keep_the_rank_busy_and_others_do_not() -> None:
    asked = job(Layout(8, 4, 1), GPT_175B)
    waits, goes_on = predict_step(asked), predict_step(replace(asked, stack="megalith"))
    assert waits.parts["pipeline sends"] > 0 == goes_on.parts["pipeline sends"]
    assert min(goes_on.send_seconds) > 0 == max(waits.send_seconds)


def test_tensor_parallelism_beyond_the_node_is_slower_than_within() -> None:
    within, beyond = job(Layout(8, 1, 2)), job(Layout(16, 1, 1), global_batch_size=8)
    share = [predict_step(one).parts["tensor communication"] / predict_step(one).seconds for one in (within, beyond)]
    assert share[1] > 2 * share[0]


def test_zero_3_pays_for_its_weights_in_every_micro_batch_and_zero_1_once() -> None:
    def seen(zero: int, count: int) -> float:
        asked = job(Layout(1, 1, 16), zero=zero, global_batch_size=16 * count, stack="fsdp")
        parts = predict_step(asked).parts
        return parts["weights gathered"] + parts["data communication"]

    assert seen(3, 8) == pytest.approx(8 * seen(3, 1), rel=0.1)
    assert seen(1, 8) <= 1.01 * seen(1, 1)


def test_weights_sharded_inside_a_node_are_gathered_inside_it_and_summed_between_nodes_once() -> None:
    asked = job(Layout(1, 1, 32), zero=3, global_batch_size=32 * 8, stack="fsdp")
    whole, inside = predict_step(asked).parts, predict_step(replace(asked, zero_shard=8)).parts
    assert inside["weights gathered"] < whole["weights gathered"]
    assert inside["data communication"] > whole["data communication"]
    assert inside["optimizer"] == pytest.approx(4 * whole["optimizer"])


def test_zero_2_scatters_gradients_after_every_micro_batch() -> None:
    once, twice = (
        predict_step(
            job(Layout(1, 1, 16), zero=zero, global_batch_size=16 * 8, stack="megatron-core", precision="bf16")
        )
        for zero in (1, 2)
    )
    assert twice.parts["data communication"] > 2 * once.parts["data communication"]


@pytest.mark.parametrize("shard", [None, 2, 8])
@pytest.mark.parametrize("count", [1, 4, 16])
def test_zero_2_is_never_faster_than_zero_1(shard: int | None, count: int) -> None:
    """The search takes this for granted; what is sent once a step hides behind one micro-batch in both."""
    asked = job(Layout(1, 1, 64), zero=1, zero_shard=shard, global_batch_size=64 * count, stack="megalith")
    first, second = predict_step(asked, exact=False), predict_step(replace(asked, zero=2), exact=False)
    assert second.seconds >= first.seconds * (1 - 1e-12)


def test_bf16_gradients_are_reduced_in_fp32_by_megatron_and_take_twice_as_long() -> None:
    narrow = job(Layout(8, 2, 8), precision="fp16")
    wide = replace(narrow, precision="bf16")
    data = [predict_step(one).parts["data communication"] for one in (narrow, wide)]
    assert data[1] == pytest.approx(2 * data[0], rel=0.01)


def test_recomputing_every_second_layer_costs_half_of_it() -> None:
    every, second = (job(Layout(8, 1, 1), recompute="full", recompute_every=n) for n in (1, 2))
    parts = [predict_step(one).parts["recomputation"] for one in (every, second)]
    assert parts[0] == pytest.approx(2 * parts[1])


def test_the_context_axis_splits_the_tokens() -> None:
    whole = job(Layout(8, 1, 1), fused_attention=True)
    split = replace(whole, layout=Layout(8, 1, 1, 2), cluster=job(Layout(8, 1, 2)).cluster)
    assert split.accelerators == 16
    assert predict_step(split).parts["computing"] == pytest.approx(predict_step(whole).parts["computing"] / 2, rel=0.15)


@pytest.mark.parametrize("change", [{"positions": "rotary"}, {"bias": False}, {"family": "bert", "vocab_size": 512}])
def test_models_of_one_width_and_depth_each_have_their_own_parameters(change: dict[str, object]) -> None:
    """The optimizer's time is the parameters', whichever model was asked about first."""
    plain = ModelConfig(num_layers=2, hidden_size=256, num_heads=4, sequence_length=4096, vocab_size=512)
    models = (plain, ModelConfig.model_validate({**plain.model_dump(), **change}))
    updates = [predict_step(job(Layout(1, 1, 1), model)).parts["optimizer"] for model in models]
    counts = [parameters(model) for model in models]
    held = [count.layers + count.token_embedding + count.position_embedding for count in counts]
    assert updates[1] / updates[0] == pytest.approx(held[1] / held[0])
    assert held[1] != held[0]


def test_megalith_deals_its_own_layers_and_others_deal_evenly() -> None:
    model = ModelConfig(num_layers=26, hidden_size=1024, num_heads=16, vocab_size=250_000)
    own = deal_of(model, 4, stack_of("megalith").balances)
    assert list(own) == [len(layers) for layers in layers_of_stages(model, 4)]
    assert deal_evenly(27, 4) == [7, 7, 7, 6]
    assert deal_evenly(22, 8) == [2, 3, 3, 3, 3, 3, 3, 2]  # the embedding and the logits stand for a layer each


def test_gradients_hide_behind_the_backward_passes_of_all_virtual_stages_but_one() -> None:
    """Megatron-Core at one micro-batch for each rank: a stage's gradients are whole long before the pipeline ends."""
    flat = job(Layout(8, 4, 32), GPT_175B, stack="megatron-core", zero=1, precision="bf16", global_batch_size=128)
    deep = replace(flat, virtual_stages=4, schedule="interleaved-1f1b")
    seen = [predict_step(one).parts["data communication"] for one in (flat, deep)]
    assert seen[1] < 0.5 * seen[0]


def test_our_sharded_gradients_hide_behind_the_ranks_other_stages() -> None:
    """In a pipeline a stage's are sent when its last backward has ended: those of a rank's only stage hide nowhere."""
    flat = job(Layout(8, 4, 32), GPT_175B, stack="megalith", zero=1, precision="bf16", global_batch_size=512)
    deep = replace(flat, virtual_stages=4, schedule="interleaved-1f1b")
    alone, beside = (predict_step(one).parts["data communication"] for one in (flat, deep))
    assert beside == pytest.approx(alone * (1 / 4 + 3 / 4 * EXPOSED_REDUCTION), rel=0.01)


def test_our_whole_gradients_hide_behind_the_last_backward_unless_it_leaves_them_for_later() -> None:
    flat = job(Layout(8, 4, 32), GPT_175B, stack="megalith", precision="bf16", global_batch_size=512)
    hidden, late = (
        predict_step(replace(flat, schedule=name)).parts["data communication"] for name in ("1f1b", "zb-h1")
    )
    parts = predict_step(flat).parts
    backward = 2 / 3 * sum(parts[name] for name in ("computing", "tensor communication", "pipeline sends")) / 16
    assert late - hidden == pytest.approx((1 - EXPOSED_REDUCTION) * backward, rel=1e-6)


def test_a_pipeline_with_bare_ends_has_shorter_stages() -> None:
    """Llama 3 405B on 16 ranks: eight stages a rank of one layer each, in place of four of two."""
    llama = ModelConfig(num_layers=126, hidden_size=16384, num_heads=128, num_kv_heads=8, ffn_hidden_size=53248,
                        sequence_length=8192, vocab_size=128256, tie_embeddings=False)  # fmt: skip
    few = job(Layout(8, 16, 1), llama, stack="megalith", precision="bf16", global_batch_size=16, virtual_stages=4,
              schedule="interleaved-1f1b", sequence_parallel=True, fused_attention=True,
              cluster=describe(ClusterConfig(name="dgx-h100", nodes=16)))  # fmt: skip
    many = replace(few, virtual_stages=8)
    assert deal_of(llama, 128, balances=True) == (0, *[1] * 126, 0)
    four, eight = (predict_step(one).parts["pipeline bubble"] for one in (few, many))
    assert eight < 0.7 * four  # half of it, but for the logits, of which the others wait alike


def test_weights_are_gathered_beside_the_next_forward_where_the_software_does_so() -> None:
    asked = job(Layout(8, 1, 32), stack="megatron-core", zero=1, precision="bf16", global_batch_size=32)
    known = replace(constants_for(asked), network=0.9)
    sharded, whole = (predict_step(replace(asked, zero=zero), known).parts["data communication"] for zero in (1, 0))
    assert sharded < whole  # half as many bytes beside the forward, and as many fewer beside the backward


def test_stragglers_grow_as_the_slowest_of_many_nodes_does() -> None:
    few, many = (job(Layout(8, 1, nodes), global_batch_size=8 * nodes) for nodes in (16, 2048 // 8))
    known = replace(constants_for(few), straggling=0.01)
    shares = [
        one.parts["stragglers"] / (one.seconds - one.parts["stragglers"])
        for one in (predict_step(few, known), predict_step(many, known))
    ]
    assert shares[0] == pytest.approx(0.01 * math.sqrt(2 * math.log(16)))
    assert shares[1] / shares[0] == pytest.approx(math.sqrt(2))  # 256 is 16²


def test_model_flops_and_the_peak_give_mfu() -> None:
    found = predict_step(job(Layout(8, 1, 1)))
    assert found.mfu == pytest.approx(found.tflops_per_gpu / 312)


def test_an_interval_is_wider_for_a_job_beyond_what_was_fitted() -> None:
    asked = job(Layout(8, 1, 64))
    constants = replace(constants_for(asked), spread=0.05, most_accelerators=512)
    fewer = replace(constants, most_accelerators=8)
    low, high = predict_step(asked, constants).interval
    assert predict_step(asked, fewer).interval[1] / predict_step(asked, fewer).interval[0] > high / low


def test_this_machine_can_be_asked_about_too() -> None:
    from megalith.topology import local_cluster

    cluster = local_cluster("a processor", 4, 16e9, peak_flops_per_second=2e11)
    asked = job(Layout(1, 1, 2), ModelConfig(num_layers=4, hidden_size=256, num_heads=4), cluster=cluster)
    assert 0 < predict_step(asked).seconds < 100
    assert step_module.device_of(cluster).peak("fp32") == 2e11
