"""The schedules that have a name: GPipe, 1F1B, interleaved 1F1B and the zero-bubble schedules made by hand.

GPipe: 1811.06965 §2.3. 1F1B and its interleaved form: Megatron-LM, 2104.04473 §2.2. ZB-H1 and ZB-H2: 2401.10241 §2.
The schedules that search for an order (ZB-2p) and those in which a rank's stages run there and back (ZB-V) are not
here.
"""

from collections.abc import Iterator

from megalith.errors import RecipeError
from megalith.schedules.actions import Action, Lists, Op

NAMES = ("gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-h2")


def build(name: str, pipeline: int, virtual_stages: int, micro_batches: int) -> Lists:
    """The lists of the named schedule: `pipeline` of them, for `virtual_stages` stages a rank.

    zb-h2 holds up to 2·pipeline − 1 micro-batches where zb-h1 and 1f1b hold `pipeline`.

    Raises RecipeError where the name is not one of NAMES, or the sizes do not go with it.
    """
    _refuse(name, pipeline, virtual_stages, micro_batches)
    ranks = range(pipeline)
    match name:
        case "gpipe":
            return tuple(_gpipe(rank, micro_batches) for rank in ranks)
        case "1f1b":
            return tuple(_one_forward_one_backward(rank, pipeline, micro_batches) for rank in ranks)
        case "interleaved-1f1b":
            return tuple(_interleaved(rank, pipeline, virtual_stages, micro_batches) for rank in ranks)
        case _:
            depth = 1 if name == "zb-h1" else 2
            return tuple(_zero_bubble(rank, pipeline, micro_batches, depth) for rank in ranks)


def _gpipe(rank: int, micro_batches: int) -> tuple[Action, ...]:
    """All forwards, then all backwards."""
    return tuple(Action(rank, op, n) for op in (Op.FORWARD, Op.BACKWARD) for n in range(micro_batches))


def _one_forward_one_backward(rank: int, pipeline: int, micro_batches: int) -> tuple[Action, ...]:
    """As many forwards ahead as there are stages behind, then in turns."""
    forwards = [Action(rank, Op.FORWARD, n) for n in range(micro_batches)]
    backwards = [Action(rank, Op.BACKWARD, n) for n in range(micro_batches)]
    return tuple(_in_turns(forwards, backwards, warm_up=pipeline - rank - 1))


def _interleaved(rank: int, pipeline: int, virtual_stages: int, micro_batches: int) -> tuple[Action, ...]:
    """1F1B over (stage, micro-batch) pairs: `pipeline` micro-batches through one stage, then through the next."""
    forwards, backwards = [], []
    for first in range(0, micro_batches, pipeline):
        for turn in range(virtual_stages):
            there, back = rank + turn * pipeline, rank + (virtual_stages - 1 - turn) * pipeline
            forwards += [Action(there, Op.FORWARD, n) for n in range(first, first + pipeline)]
            backwards += [Action(back, Op.BACKWARD, n) for n in range(first, first + pipeline)]
    warm_up = 2 * (pipeline - rank - 1) + (virtual_stages - 1) * pipeline
    return tuple(_in_turns(forwards, backwards, warm_up))


def _zero_bubble(rank: int, pipeline: int, micro_batches: int, depth: int) -> tuple[Action, ...]:
    """1F1B, with the weight gradients `depth`·rank micro-batches behind the input gradients.

    What they fall behind, a rank fills its wait at the end with; `depth` scales the warm-up too. At depth 1, what a
    rank holds for late weight gradients it saves in the warm-up, and every rank holds at most `pipeline`.
    """
    forwards = [Action(rank, Op.FORWARD, n) for n in range(micro_batches)]
    inputs = [Action(rank, Op.INPUT_GRADIENT, n) for n in range(micro_batches)]
    weights = iter([Action(rank, Op.WEIGHT_GRADIENT, n) for n in range(micro_batches)])
    actions: list[Action] = []
    for action in _in_turns(forwards, inputs, warm_up=depth * (pipeline - rank - 1)):
        actions.append(action)
        if action.op is Op.INPUT_GRADIENT and action.micro_batch >= depth * rank:
            actions.append(next(weights))
    return (*actions, *weights)


def _in_turns(forwards: list[Action], backwards: list[Action], warm_up: int) -> Iterator[Action]:
    """`warm_up` forwards, then a forward and a backward in turns, then the backwards that are left."""
    ahead = min(warm_up, len(forwards))
    yield from forwards[:ahead]
    for forward, backward in zip(forwards[ahead:], backwards, strict=False):
        yield forward
        yield backward
    yield from backwards[len(backwards) - ahead :]


def _refuse(name: str, pipeline: int, virtual_stages: int, micro_batches: int) -> None:
    """Raise RecipeError where the schedule cannot be."""
    if name not in NAMES:
        raise RecipeError(
            f"schedule {name!r} is not known.", where="parallel.schedule", mend=f"Set one of {', '.join(NAMES)}."
        )
    if min(pipeline, virtual_stages, micro_batches) < 1:
        raise RecipeError(
            f"{pipeline} ranks of {virtual_stages} stages cannot share {micro_batches} micro-batches.",
            where="parallel",
            mend="Use at least one of each.",
        )
    if name != "interleaved-1f1b" and virtual_stages > 1:
        raise RecipeError(
            f"{name} has one stage a rank, and not {virtual_stages}.",
            where="parallel.virtual_stages",
            mend="Set 1, or parallel.schedule=interleaved-1f1b.",
        )
    if name == "interleaved-1f1b" and virtual_stages == 1:
        raise RecipeError(
            "one stage a rank cannot be interleaved.",
            where="parallel.virtual_stages",
            mend="Set 2 or more, or parallel.schedule=1f1b.",
        )
    if name == "interleaved-1f1b" and micro_batches % pipeline:
        fitting = sorted({max(1, micro_batches // pipeline) * pipeline, -(-micro_batches // pipeline) * pipeline})
        raise RecipeError(
            f"interleaved-1f1b wants a multiple of parallel.pipeline={pipeline} micro-batches a step, "
            f"and there are {micro_batches}.",
            where="parallel.schedule",
            mend=f"Change train.global_batch_size or train.micro_batch_size so that there are "
            f"{' or '.join(map(str, fitting))}, or take parallel.schedule=1f1b.",
        )
