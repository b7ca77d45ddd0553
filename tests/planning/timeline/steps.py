"""Small steps to draw."""

from megalith.planning.timeline import Held, Step, Timing
from megalith.schedules import Op, build


def step(
    name: str = "1f1b",
    pipeline: int = 3,
    virtual: int = 1,
    micro_batches: int = 6,
    *,
    send: float = 0.25,
    after: tuple[float, float] = (0.0, 0.0),
    held: Held | None = None,
) -> Step:
    """Forward, input and weight gradient take 1, 1.5 and 0.5 seconds on every stage."""
    each = {Op.FORWARD: 1.0, Op.INPUT_GRADIENT: 1.5, Op.WEIGHT_GRADIENT: 0.5}
    stages = pipeline * virtual
    timing = Timing([each] * stages, [send] * (stages - 1), *after)
    return Step(name, build(name, pipeline, virtual, micro_batches), timing, held)
