"""Going back within a run: to the last checkpoint outside of any streak of skipped steps, with or without its data.

It is read from the disk and not from memory, so that a run which is killed on the way does the same when it goes on.
"""

from typing import Any

import torch.distributed as dist

from megalith.console import note
from megalith.errors import MegalithError
from megalith.training import checkpoint
from megalith.training.checkpoint.files import Name
from megalith.training.run_state import GoBack, Run, restore

MOST_TIMES = 10  # to one checkpoint


def go_back(run: Run, asked: GoBack) -> bool:
    """Put the run into the state of its last sound checkpoint; False where there is none. Every rank must call it.

    Raises MegalithError where it has gone back to the same one too often, and `asked.otherwise` where there is none.
    """
    run.back = None
    run.saver.wait()
    own = checkpoint.last_sound(run.task.checkpoints) if run.ranks.is_rank_zero else None
    (step,) = (int(each) for each in run.ranks.sum(own or 0))
    if not step:
        if asked.otherwise is not None:
            raise asked.otherwise
        return False
    left, events = run.progress.step, run.progress.events
    times = sum(event["event"] == "went back" and event["to"] == step for event in events)
    if times >= MOST_TIMES:
        raise MegalithError(
            f"the run has gone back to step {step} {times} times, and has not come past step {left}.",
            where="train.learning_rate",
            mend=f"Set a lower one, with --branch {step}; or a higher train.spike_score.",
        )
    found = checkpoint.open_together(run.task.checkpoints / str(Name(step)), run.task.run, dist.group.WORLD)
    restore(run, found)
    event: dict[str, Any] = {"step": left, "event": "went back", "to": step}
    if asked.first_sample is not None:
        event["samples"] = [run.progress.samples, asked.first_sample - 1]
        run.progress.samples = asked.first_sample
    run.progress.events = [*events, event]
    if run.ranks.is_rank_zero:
        skipped = "" if asked.first_sample is None else f", and on after sample {asked.first_sample - 1:,}"
        note(f"the run goes back from step {left:,} to the checkpoint of step {step:,}{skipped}")
    return True
