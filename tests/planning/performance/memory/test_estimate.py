"""The memory model: the papers' figures, the schedules' lists, and the meters."""

from dataclasses import replace

import pytest

from megalith import schedules
from megalith.arithmetic import parameters
from megalith.job import Job
from megalith.planning.performance.memory import PARTS, estimate_memory, fits, shown_bytes
from megalith.planning.performance.memory.constants import from_json, shipped
from megalith.planning.performance.memory.other_stacks import holdings, layer_bytes, published_parts, stage_layers
from megalith.planning.performance.memory.parameters_per_rank import held
from megalith.recipe import ClusterConfig, load_recipe
from megalith.schedules.closed_forms import most_in_flight
from megalith.topology import Layout, describe
from tests.planning.performance.memory.jobs import gpt

GIB = 2**30


def megatron(layout: Layout, micro_batch_size: int, batch: int, **changes: object) -> Job:
    """As in 2205.05198: Selene, unfused attention, activations as Megatron-LM keeps them."""
    cluster = describe(ClusterConfig(name="selene", nodes=max(1, layout.world // 8)))
    job = Job(gpt(), cluster, layout, micro_batch_size, batch, stack="megatron", fused_attention=False)
    return replace(job, **changes)  # type: ignore[arg-type]  # its fields by name


PAPER = [
    # model, layout, micro-batch, virtual stages, Figure 1's bars: params + optimizer, TP alone, with SP and selective
    (gpt(), Layout(8, 1, 1), 4, 1, 45.5625, 59.25, 9.5625),
    (gpt(num_layers=96, hidden_size=12288, num_heads=96), Layout(8, 8, 1), 1, 3, 45.5625, 66.84, 12.35),
    (gpt(num_layers=105, hidden_size=20480, num_heads=128), Layout(8, 35, 1), 1, 3, 31.64, 114.02, 23.08),
    (gpt(num_layers=128, hidden_size=25600, num_heads=160), Layout(8, 64, 1), 1, 1, 32.96, 131.25, 26.56),
]


@pytest.mark.parametrize(("model", "layout", "size", "virtual", "state", "whole", "least"), PAPER, ids=str)
def test_a_rank_holds_what_figure_1_of_the_selective_recomputation_paper_shows(
    model: object, layout: Layout, size: int, virtual: int, state: float, whole: float, least: float
) -> None:
    """Bars read off the figure: 3 %, and 8 % for the shortest, where what we add at the ends weighs most."""
    job = megatron(
        layout,
        size,
        size * layout.pipeline * 4,
        model=model,
        virtual_stages=virtual,
        schedule="interleaved-1f1b" if virtual > 1 else "1f1b",
    )
    middle = published_parts(job, layout.pipeline // 2) if layout.pipeline > 1 else published_parts(job, 0)
    held = middle["weights"] + middle["gradients"] + middle["optimizer"]
    assert held / GIB == pytest.approx(state, rel=0.03)
    assert published_parts(job, 0)["activations"] / GIB == pytest.approx(whole, rel=0.03)
    spared = replace(job, recompute="selective", sequence_parallel=True)
    assert published_parts(spared, 0)["activations"] / GIB == pytest.approx(least, rel=0.08)


def test_a_layer_keeps_what_the_papers_formulas_say() -> None:
    """2205.05198 §4: s·b·h·(10 + 24/t + 5·a·s/(h·t)); sequence parallelism divides all by t; selective drops scores."""
    job = megatron(Layout(8, 1, 1), 4, 4)
    s, b, h, a, t = 2048, 4, 6144, 64, 8
    assert layer_bytes(job)[0] == pytest.approx(s * b * h * (10 + 24 / t + 5 * a * s / (h * t)))
    assert layer_bytes(replace(job, sequence_parallel=True))[1] == pytest.approx(s * b * h * 34 / t)
    assert layer_bytes(job)[2] == 2 * s * b * h
    fused = replace(job, fused_attention=True)
    assert layer_bytes(fused)[0] == pytest.approx(s * b * h * (10 + 24 / t) + 4 * a * s * b / t)


def test_every_stack_holds_the_bytes_that_its_source_says() -> None:
    def total(stack: str, precision: str, zero: int, replicas: int) -> float:
        own = holdings(stack, precision, zero)
        shared = own.weights + own.gradients
        return (shared / replicas if own.shards_all else shared) + own.optimizer / replicas

    assert total("megatron", "bf16", 0, 1) == 18
    assert total("megatron-core", "bf16", 1, 8) == 6 + 12 / 8
    assert total("megatron-deepspeed", "fp16", 1, 4) == 4 + 12 / 4
    assert total("fsdp", "bf16", 3, 64) == 16 / 64


@pytest.mark.parametrize("pipeline", [1, 2, 4, 8])
@pytest.mark.parametrize("name", schedules.NAMES)
def test_the_closed_forms_hold_what_the_action_lists_hold(name: str, pipeline: int) -> None:
    virtual = 3 if name == "interleaved-1f1b" else 1
    for micro_batches in (1, 3, 4, 8, 24):
        if virtual > 1 and micro_batches % pipeline:
            continue
        listed = schedules.in_flight(schedules.build(name, pipeline, virtual, micro_batches))
        ranks = range(pipeline)
        assert listed == tuple(most_in_flight(name, rank, pipeline, virtual, micro_batches) for rank in ranks)


def test_uneven_layers_lie_where_each_software_puts_them() -> None:
    """Embedding and logits count as a layer each where the layers alone do not divide (BLOOM's 70 over 12)."""
    assert stage_layers(gpt(num_layers=70), 12, "megatron-deepspeed") == (5, *[6] * 10, 5)
    assert stage_layers(gpt(num_layers=78), 8, "megatron") == (9, *[10] * 6, 9)
    assert stage_layers(gpt(num_layers=77), 7, "megatron") == (11,) * 7
    dealt = stage_layers(gpt(num_layers=28, hidden_size=3072, ffn_hidden_size=8192, vocab_size=131072), 2, "nanotron")
    assert sum(dealt) == 28
    assert dealt[0] > dealt[1]


@pytest.mark.parametrize("stack", ["megalith", "megatron", "megatron-deepspeed", "torchtitan"])
def test_the_parts_are_what_is_allocated_and_the_meters_are_in_order(stack: str) -> None:
    job = megatron(Layout(8, 4, 2), 1, 64, stack=stack, recompute="full")
    found = estimate_memory(job)
    for stage in found.stages:
        assert set(stage.parts) == set(PARTS)
        assert sum(stage.parts.values()) - stage.parts["context"] == pytest.approx(stage.allocated_bytes)
        assert 0 < stage.allocated_bytes <= stage.reserved_bytes * (1 + 1e-9) <= stage.device_bytes
    assert found.worst.device_bytes == max(stage.device_bytes for stage in found.stages)
    low, high = found.interval
    assert low < found.worst.device_bytes < high
    assert found.worst.allocated_bytes <= shown_bytes(job, found) <= found.worst.device_bytes


@pytest.mark.parametrize("stack", ["megalith", "megatron"])
@pytest.mark.parametrize("schedule", ["1f1b", "zb-h1", "gpipe"])
def test_the_worst_rank_is_found_without_looking_at_all(stack: str, schedule: str) -> None:
    for layers, vocab_size, recompute in ((32, 250_000, "none"), (30, 250_000, "none"), (37, 1000, "full")):
        model = gpt(num_layers=layers, vocab_size=vocab_size)
        job = megatron(Layout(1, 8, 2), 2, 64, stack=stack, schedule=schedule, model=model, recompute=recompute)
        found = estimate_memory(job)
        assert found.worst.device_bytes == max(stage.device_bytes for stage in found.stages)


def test_fragments_go_back_before_a_device_overflows() -> None:
    """A rank that would be over by its fragments alone fills the device, and fits."""
    job = megatron(Layout(8, 4, 2), 1, 64, recompute="full")
    free = estimate_memory(job).worst
    tight = replace(job, cluster=replace(job.cluster, memory_bytes=free.device_bytes - 1e8))
    assert estimate_memory(tight).worst.device_bytes == pytest.approx(free.device_bytes - 1e8)
    assert fits(tight, estimate_memory(tight))
    small = replace(job, cluster=replace(job.cluster, memory_bytes=free.allocated_bytes))
    assert not fits(small, estimate_memory(small))


@pytest.mark.parametrize("name", ["gpt3-175b", "llama-8b", "chinchilla-70b", "gopher-280b", "bert-3.9b"])
def test_the_stages_hold_all_parameters_and_a_tied_embedding_twice(name: str) -> None:
    model = load_recipe(name)[0].model
    whole = parameters(model)
    assert held(model, 1, model.layers, is_first_stage=True, is_last_stage=True).total == whole.total
    at_first, at_last = (
        held(model, 1, model.layers // 2, is_first_stage=first, is_last_stage=not first) for first in (True, False)
    )
    copy = whole.token_embedding if model.tie_embeddings else 0
    assert at_first.total + at_last.total == whole.total + copy


def test_the_shipped_constants_can_be_written_and_read() -> None:
    constants = shipped()
    assert constants.lines
    assert from_json(constants.to_json()) == constants
    for lines in map(constants.of, (*constants.lines, "megalith", "unheard-of")):
        assert lines["allocated"].share <= lines["reserved"].share
