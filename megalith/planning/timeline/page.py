"""Steps as one HTML page that opens from disk: a canvas that is zoomed and dragged, and says what lies under the
pointer. The script and the style are in the page, and its content security policy lets it fetch nothing.
"""

import json
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from megalith.planning.timeline.colours import DEEP, name
from megalith.planning.timeline.scene import headline, opacity
from megalith.planning.timeline.step import Block, Kind, Step, kinds_of
from megalith.planning.timeline.templates import file_of, render

_KINDS = list(Kind)


def page(title: str, steps: Sequence[Step]) -> str:
    """The whole file."""
    facts = json.dumps([_facts(step) for step in steps], separators=(",", ":")).replace("<", "\\u003c")
    return render(
        "timeline",
        title=title,
        steps=[{"schedule": step.schedule, "headline": headline(step)} for step in steps],
        legend=[*((kind.value, name(kind)) for kind in kinds_of(steps)), ("bubble", "bubble")],
        kinds=json.dumps([{"name": kind, "css": name(kind), "deep": kind in DEEP} for kind in _KINDS]),
        facts=Markup(facts),
        script=file_of("timeline", "page.js"),
    )


def _facts(step: Step) -> dict[str, Any]:
    """Data for the page's script; times in microseconds, or in thousandths of a forward."""
    scale = 1e6 if step.timing.clock == "seconds" else 1e3
    return {
        "schedule": step.schedule,
        "headline": headline(step),
        "clock": step.timing.clock,
        "scale": scale,
        "step": round(step.step_seconds * scale, 1),
        "bytes": step.held is not None,
        "work": [[_flat(step, block, scale) for block in blocks] for blocks in step.work],
        "sends": [[_flat(step, block, scale) for block in blocks] for blocks in step.sends],
        "memory": [
            [[round(at * scale, 1), round(amount, 0 if step.held else 3)] for at, amount in points]
            for points in step.memory
        ],
        "bubbles": [round(share, 4) for share in step.bubble_fractions],
    }


def _flat(step: Step, block: Block, scale: float) -> list[float]:
    """Kind, start, duration; and of an action its stage, its micro-batch and how opaque it is."""
    start = round(block.start_seconds * scale, 1)
    made = [_KINDS.index(block.kind), start, round(block.end_seconds * scale - start, 1)]
    if block.action is None:
        return made
    return [*made, block.action.stage, block.action.micro_batch, round(opacity(step, block), 3)]
