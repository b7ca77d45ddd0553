"""Whether lists of actions are a schedule: whole, each stage at home, and never waiting for each other in a circle.

Sends are taken never to block, as the executor posts them. One rule comes from that executor,
torch.distributed.pipelining: it keeps the losses in the order in which the last stage's forwards come, and counts on
that being the order of the micro-batches.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

from megalith.errors import RecipeError
from megalith.schedules.actions import Action, Op, holder

RECIPE_KEY = "parallel.schedule"
_BACKWARD = (Op.INPUT_GRADIENT, Op.WEIGHT_GRADIENT)
_PARTS = (Op.FORWARD, *_BACKWARD)
_ONCE = "A stage takes F once for each micro-batch, and B once or I and W once."


def check(
    lists: Sequence[Sequence[Action]],
    pipeline: int,
    virtual_stages: int,
    micro_batches: int,
    *,
    where: str = RECIPE_KEY,
) -> None:
    """Raise RecipeError unless each stage's forward and backward (B, or I and W) of each micro-batch is done exactly
    once, on the rank that holds the stage, and after what it needs. `where` is the key or file to name."""
    if len(lists) != pipeline:
        raise RecipeError(
            f"the number of lists is {len(lists)}, and of pipeline ranks {pipeline}.",
            where=where,
            mend="Use one list for each rank.",
        )
    stages = pipeline * virtual_stages
    for rank, actions in enumerate(lists):
        _want_each_once(rank, actions, range(rank, stages, pipeline), micro_batches, where)
    _want_losses_in_order(lists, stages - 1, where)
    for _ in in_order(lists, where=where):
        pass


def in_order(lists: Sequence[Sequence[Action]], *, where: str = RECIPE_KEY) -> Iterator[tuple[int, Action]]:
    """Every (rank, action), each after what it needs, and those of a rank in the order of its list.

    Raises RecipeError, after the last action that can be done, where the ranks left wait for one another.
    """
    last_stage = max((action.stage for actions in lists for action in actions), default=0)
    reached = [0] * len(lists)
    done: set[Action] = set()
    waiting: dict[Action, list[int]] = defaultdict(list)
    ready = deque(range(len(lists)))
    while ready:
        rank = ready.popleft()
        while reached[rank] < len(lists[rank]):
            action = lists[rank][reached[rank]]
            missing = next((need for need in wants(action, last_stage) if need not in done), None)
            if missing is not None:
                waiting[missing].append(rank)
                break
            yield rank, action
            reached[rank] += 1
            done.add(gives(action))
            ready.extend(waiting.pop(gives(action), ()))
    if waiting:
        raise _deadlock(lists, reached, last_stage, done, where)


def wants(action: Action, last_stage: int) -> Iterator[Action]:
    """Actions that must be done before `action`. A backward counts as its input gradient, as `gives` says."""
    stage, op, micro_batch = action
    if op is Op.FORWARD:
        if stage > 0:
            yield Action(stage - 1, Op.FORWARD, micro_batch)
    elif op is Op.WEIGHT_GRADIENT:
        yield Action(stage, Op.INPUT_GRADIENT, micro_batch)
    else:
        yield Action(stage, Op.FORWARD, micro_batch)
        if stage < last_stage:
            yield Action(stage + 1, Op.INPUT_GRADIENT, micro_batch)


def gives(action: Action) -> Action:
    """The name under which others want what `action` computes."""
    return action._replace(op=Op.INPUT_GRADIENT) if action.op is Op.BACKWARD else action


def _want_each_once(rank: int, actions: Sequence[Action], held: range, micro_batches: int, where: str) -> None:
    seen: set[tuple[Op, int, int]] = set()
    for number, action in enumerate(actions):
        here = _place(actions, rank, number)
        stage, op, micro_batch = action
        if stage not in held:
            raise RecipeError(
                f"{here}: the stage is not on this rank.",
                where=where,
                mend=f"Rank {rank} holds {', '.join(map(str, held))}.",
            )
        if not 0 <= micro_batch < micro_batches:
            raise RecipeError(
                f"{here}: micro-batch {micro_batch} is not one of the step's.",
                where=where,
                mend=f"The step's {micro_batches} are counted from 0.",
            )
        for part in _BACKWARD if op is Op.BACKWARD else (op,):
            if (part, stage, micro_batch) in seen:
                raise RecipeError(f"{here}: this has been done before.", where=where, mend=_ONCE)
            seen.add((part, stage, micro_batch))
    for stage in held:
        for micro_batch in range(micro_batches):
            missing = [part for part in _PARTS if (part, stage, micro_batch) not in seen]
            if missing:
                part = Op.BACKWARD if missing == list(_BACKWARD) else missing[0]
                raise RecipeError(
                    f"rank {rank}: {Action(stage, part, micro_batch)} is missing.", where=where, mend=_ONCE
                )


def _want_losses_in_order(lists: Sequence[Sequence[Action]], last_stage: int, where: str) -> None:
    rank = holder(last_stage, len(lists))
    expected = 0
    for number, (stage, op, micro_batch) in enumerate(lists[rank]):
        if stage == last_stage and op is Op.FORWARD:
            if micro_batch != expected:
                raise RecipeError(
                    f"{_place(lists[rank], rank, number)}: the last stage's forwards are out of order.",
                    where=where,
                    mend=f"Here, micro-batch {expected} is due.",
                )
            expected += 1


def _deadlock(
    lists: Sequence[Sequence[Action]], reached: Sequence[int], last_stage: int, done: set[Action], where: str
) -> RecipeError:
    """The chain of actions that a rank waits for."""
    rank = next(rank for rank, number in enumerate(reached) if number < len(lists[rank]))
    seen: set[int] = set()
    while True:  # from rank to rank, up to one whose own list is wrong or to one of a circle
        need = next(need for need in wants(lists[rank][reached[rank]], last_stage) if need not in done)
        other = holder(need.stage, len(lists))
        due = [action for action in lists[other][reached[other] :] if gives(action) == need]
        if not due or other == rank or rank in seen:
            break
        seen.add(rank)
        rank = other
    if not due:
        what = f"{need}, which is in no list"
    elif other == rank:
        what = f"{due[0]}, which comes later"
    else:
        what = f"{due[0]}, and {_place(lists[other], other, reached[other])}, waits before that"
    return RecipeError(
        f"{_place(lists[rank], rank, reached[rank])}, waits for {what}.",
        where=where,
        mend="Put every action after those that it needs.",
    )


def _place(actions: Sequence[Action], rank: int, number: int) -> str:
    return f"rank {rank}, action {number + 1} of {len(actions)}, {actions[number]}"
