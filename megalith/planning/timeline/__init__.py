"""One training step, drawn from the very lists that training runs: who computes, sends and waits when, and what each
rank holds meanwhile.

`steps_of` plays a recipe's layout by one schedule or several; `figures` and `write_timeline` show what came out. What
`performance.pipeline_timeline` leaves out (full links, what a rank's threads do to each other) is left out here too.
"""

from megalith.planning.timeline.figures import figures, title
from megalith.planning.timeline.files import write_timeline
from megalith.planning.timeline.recipe_steps import Given, given_durations, steps_of
from megalith.planning.timeline.step import Block, Held, Kind, Step, Timing

__all__ = [
    "Block",
    "Given",
    "Held",
    "Kind",
    "Step",
    "Timing",
    "figures",
    "given_durations",
    "steps_of",
    "title",
    "write_timeline",
]
