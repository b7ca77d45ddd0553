"""Steps as a trace for https://ui.perfetto.dev and chrome://tracing, with the names that traced training steps bear.

`PP:0F3` is the forward pass of stage 0 on micro-batch 3, as in the traces of `training.profiling`, so that a
predicted and a real step can be opened side by side. Each schedule is a process, each rank a thread for its work, one
for its sends, and a counter of what it holds. Times are microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from megalith.planning.timeline.step import Block, Step

_AFTER = {"data-parallel reduction": "reduce", "optimizer": "optimizer"}  # as training's clock calls them


def trace(steps: Sequence[Step]) -> str:
    """The whole file, in Chrome's trace event format."""
    events = [event for number, step in enumerate(steps) for event in _events(number, step)]
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, separators=(",", ":"))


def _events(process: int, step: Step) -> Iterator[dict[str, Any]]:
    yield _named("process_name", process, 0, f"{step.schedule} (predicted)")
    for rank, (work, sends) in enumerate(zip(step.work, step.sends, strict=True)):
        for thread, blocks, word in ((2 * rank, work, ""), (2 * rank + 1, sends, ", sends")):
            if blocks:
                yield _named("thread_name", process, thread, f"rank {rank}{word}")
                yield {**_meta("thread_sort_index", process, thread), "args": {"sort_index": thread}}
            for block in blocks:
                yield _slice(process, thread, block)
        unit = "bytes" if step.held else "micro-batches"
        for seconds, amount in step.memory[rank]:
            yield {
                "ph": "C",
                "pid": process,
                "ts": _microseconds(seconds),
                "name": f"held by rank {rank}",
                "args": {unit: round(amount, 3)},
            }


def _slice(process: int, thread: int, block: Block) -> dict[str, Any]:
    action, kind = block.action, block.kind.value
    name = _AFTER.get(kind, kind) if action is None else f"PP:{action}" if kind != "send" else f"send of {action}"
    made: dict[str, Any] = {
        "ph": "X",
        "pid": process,
        "tid": thread,
        "ts": _microseconds(block.start_seconds),
        "dur": _microseconds(block.end_seconds - block.start_seconds),
        "name": name,
        "cat": kind,
    }
    return made | ({"args": {"stage": action.stage, "micro_batch": action.micro_batch}} if action else {})


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {**_meta(what, process, thread), "args": {"name": name}}


def _meta(what: str, process: int, thread: int) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 3)
