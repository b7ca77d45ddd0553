"""The step of a layout on this machine, composed of measured blocks.

    step = reading + forward and backward passes (through the pipeline, if there is one) + what ranks agree on
           + reduction of the gradients + update

A stage's pass is that of its layers and of its ends. All of a layout's processes are measured at work at once, so that
shared cores and memory lanes, and the collectives within a layer, are in the blocks. In a pipeline fewer are at work at
times, and faster then: `shared_cores` plays the lists that training runs. Nothing is taken to overlap but what does so
within a block.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from megalith.errors import UnsupportedError
from megalith.job import Job
from megalith.planning.measuring.block_settings import Setting, settings_of, without_zero
from megalith.planning.measuring.machine_file import Block, BlockTable
from megalith.planning.measuring.shared_cores import ByActive, play
from megalith.planning.performance.traffic import Traffic, step_traffic
from megalith.schedules import Op, action_lists, layers_of_stages

COMPOSITION_ERROR = 0.10  # of a step composed of blocks, beside their own spread: a judgement, until runs say
AGREEMENTS = {1: 3, 2: 2}
"""Sums of a few numbers over all ranks in a step, tokens and losses, by the file's version: in the first, a block's
update lacked the norm's sum."""
Collective = Literal["all_reduce", "send"]


@dataclass(frozen=True)
class BlockStep:
    """One step, as it will be."""

    seconds: float
    interval: tuple[float, float]
    parts: Mapping[str, float]
    """Seconds by what the step's longest rank does; they add up to `seconds`."""


def predict_here(job: Job, table: BlockTable) -> BlockStep:
    """The job's step on the machine that the table was measured on.

    Raises UnsupportedError where a block that it needs was not measured.
    """
    _want_same_width(job, table)
    own = settings_of(job, table.cores)
    blocks = [_block(table, setting) for setting in own]
    parts = {"reading": job.micro_batches * blocks[-1].read}
    parts |= _pipelined(job, table, own, blocks) if job.layout.pipeline > 1 else _plain(job, table, own[-1], blocks[-1])
    parts["agreeing"] = AGREEMENTS[table.schema_version] * _message(
        table, "all_reduce", job.layout.world, job.layout.world, 8
    )
    parts["reducing"] = _reducing(job, table)
    parts["updating"] = max(_updating(table, blocks[-1], job, stage) for stage in range(job.layout.pipeline))
    factor = table.correction.factor if table.correction else 1.0
    parts = {name: factor * seconds for name, seconds in parts.items() if seconds}
    seconds = sum(parts.values())
    return BlockStep(seconds, _interval(seconds, table, blocks), parts)


def _plain(job: Job, table: BlockTable, setting: Setting, block: Block) -> dict[str, float]:
    """Micro-batches one after another."""
    each = {"forward": _line(table, block.forward, job), "backward": _line(table, block.backward, job)}
    if job.zero != 1:
        return {name: job.micro_batches * seconds for name, seconds in each.items()}
    whole = _block(table, without_zero(setting))  # ZeRO-1 reduces with the last one alone
    early = {"forward": _line(table, whole.forward, job), "backward": _line(table, whole.backward, job)}
    return {name: (job.micro_batches - 1) * early[name] + each[name] for name in each}


def _pipelined(job: Job, table: BlockTable, own: Sequence[Setting], blocks: Sequence[Block]) -> dict[str, float]:
    """The action lists, played; the parts are those of the rank that is at work for longest."""
    pipeline, world = job.layout.pipeline, job.layout.world
    stages = pipeline * job.virtual_stages
    runner = _runner(table, pipeline, world)
    counts = [len(layers) for layers in layers_of_stages(job.model, stages)]
    seconds: list[ByActive] = []
    for stage, count in enumerate(counts):
        ends = (stage == 0, stage == stages - 1)
        forward = [_pass(table, block, "forward", count, *ends) for block in blocks]
        backward = [_pass(table, block, "backward", count, *ends) for block in blocks]
        whole = forward[-1] + backward[-1]
        slower = 1 + runner / whole if whole else 1.0
        forward, backward = ([slower * each for each in row] for row in (forward, backward))
        half = [each / 2 for each in backward]
        seconds.append({Op.FORWARD: forward, Op.BACKWARD: backward, Op.INPUT_GRADIENT: half, Op.WEIGHT_GRADIENT: half})
    send = max(_message(table, "send", 2, world, row.payload_bytes / row.count) for row in _sent(job, "pipeline"))
    timeline = play(action_lists(job.parallel, job.micro_batches, training=True), seconds, send)
    busy = max(timeline.busy_seconds)
    parts = {"stages": busy, "waiting for other stages": timeline.step_seconds - busy}
    for row in _sent(job, "ends"):
        parts["embedding at both ends"] = _message(table, "all_reduce", 2, world, row.payload_bytes)
    return parts


def _pass(
    table: BlockTable,
    block: Block,
    name: Literal["forward", "backward"],
    layers: int,
    begins: bool,
    ends: bool,
) -> float:
    """Seconds of a stage: the whole model's ends are those of the block at no layers."""
    pair: tuple[float, float] = getattr(block, name)
    embedding = block.embed if name == "forward" else block.unembed
    assert embedding is not None  # no ZeRO within a pipeline
    layer = _slope(table, pair)
    both = max(0.0, pair[0] - table.depths[0] * layer)
    embedding = min(embedding, both)
    return layers * layer + (embedding if begins else 0.0) + (both - embedding if ends else 0.0)


def _reducing(job: Job, table: BlockTable) -> float:
    """Without ZeRO, one all-reduce of a rank's gradients; with it the block has it."""
    if job.layout.data == 1 or job.zero:
        return 0.0
    bytes_ = max(row.payload_bytes for row in _sent(job, "data"))
    return _message(table, "all_reduce", job.layout.data, job.layout.world, bytes_)


def _sent(job: Job, axis: Literal["pipeline", "data", "ends"]) -> list[Traffic]:
    """Return the messages that the ranks of every stage send over an axis in a step."""
    rows = (step_traffic(job, rank) for rank in range(job.layout.pipeline))
    return [row for row in itertools.chain.from_iterable(rows) if row.axis == axis]


def _updating(table: BlockTable, block: Block, job: Job, stage: int) -> float:
    layers = len(layers_of_stages(job.model, job.layout.pipeline)[stage])
    layer = _slope(table, block.update)
    ends = max(0.0, block.update[0] - table.depths[0] * layer)
    return layers * layer + (ends if stage in (0, job.layout.pipeline - 1) else 0.0)


def _line(table: BlockTable, pair: tuple[float, float], job: Job) -> float:
    """At the job's depth, by the line through both measured ones."""
    return max(0.0, pair[0] + _slope(table, pair) * (job.model.layers - table.depths[0]))


def _slope(table: BlockTable, pair: tuple[float, float]) -> float:
    """Seconds of one layer."""
    return max(0.0, pair[1] - pair[0]) / (table.depths[1] - table.depths[0])


def _block(table: BlockTable, setting: Setting) -> Block:
    found = next((block for block in table.blocks if block.setting == setting), None)
    if found is None:
        raise UnsupportedError(
            f"this machine was not measured for tensor={setting.tensor}, zero={setting.zero}, micro-batches of "
            f"{setting.micro_batch_size} in {setting.precision}, and {setting.processes} processes of "
            f"{setting.threads} threads at once.",
            mend="Measure it for such a layout: megalith plan calibrate --measure.",
        )
    return found


def _runner(table: BlockTable, pipeline: int, processes: int) -> float:
    seconds = [row.seconds for row in table.runners if (row.pipeline, row.processes) == (pipeline, processes)]
    return seconds[0] if seconds else _missing(f"a pipeline of {pipeline} over {processes} processes")


def _message(table: BlockTable, collective: Collective, group_size: int, processes: int, bytes_: float) -> float:
    """Between measured sizes along a line, beyond them in proportion; nothing for a group of one."""
    if group_size == 1:
        return 0.0
    known = sorted(
        (row.bytes, row.seconds)
        for row in table.messages
        if (row.collective, row.group_size, row.processes) == (collective, group_size, processes)
    )
    if not known:
        return _missing(f"{collective} over groups of {group_size} among {processes} processes")
    for (low, fast), (high, slow) in itertools.pairwise(known):
        if bytes_ <= high:
            return fast + (slow - fast) * max(0.0, bytes_ - low) / (high - low)
    return known[-1][1] * max(1.0, bytes_ / known[-1][0])


def _missing(what: str) -> float:
    raise UnsupportedError(
        f"this machine was not measured for {what}.",
        mend="Measure it for such a layout: megalith plan calibrate --measure.",
    )


def _interval(seconds: float, table: BlockTable, blocks: Sequence[Block]) -> tuple[float, float]:
    """Return the interval from runs on this machine; without runs it is a judgement without a claimed coverage."""
    if table.correction:
        low, high = table.correction.interval
        return seconds * low / table.correction.factor, seconds * high / table.correction.factor
    error = math.hypot(COMPOSITION_ERROR, max(block.spread for block in blocks))
    return seconds / (1 + error), seconds * (1 + error)


def _want_same_width(job: Job, table: BlockTable) -> None:
    """Raise UnsupportedError unless the job's model differs from the measured one in its depth alone."""
    asked, known = (model.model_dump(exclude={"num_layers"}) for model in (job.model, table.model))
    other = sorted(name for name in asked if asked[name] != known[name])
    if other:
        name = other[0]
        raise UnsupportedError(
            f"this machine was measured for a model with {name}={known[name]}, and this one has {asked[name]}.",
            where=f"model.{name}",
            mend="Measure it for this model: megalith plan calibrate --measure --recipe RECIPE.",
        )
