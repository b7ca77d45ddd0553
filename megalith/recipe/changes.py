"""The table of settings: what a change of each setting that training depends on does to a run that has begun.

`resume`: the same command goes on from the last checkpoint. `branch`: refused, with both values; `--branch STEP` goes
on from that step with the change, in a directory of its own. `refuse`: another run; `--fresh` sets the old one aside.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from megalith.recipe.machine import ParallelConfig
from megalith.recipe.model import ModelConfig

Effect = Literal["resume", "branch", "refuse"]


@dataclass(frozen=True)
class Change:
    """A row of the table."""

    key: str
    effect: Effect
    why: str


_RESUME = {
    "its weights are the same within rounding": "train.micro_batch_size train.compile train.deterministic "
    "train.cuda_graphs",
    "what is measured, not what is learned": "train.validation_interval train.validation_sequences train.trace_steps "
    "train.replica_check_interval",
    "how long ranks wait for each other": "train.timeout_seconds",
    "with how many ranks, and the layout is no part of a run": "train.elastic",
    "which checkpoints stand, and where": "train.checkpoint_interval train.checkpoints_kept train.milestones "
    "train.keep_best train.mirror",
    "the place alone; other weights there are another run": "train.from",
}
_BRANCH = {
    "how long, and at which rate": "train.tokens train.learning_rate train.minimum_learning_rate train.schedule "
    "train.warmup_tokens train.decay_tokens train.cooldown_tokens",
    "which steps are taken": "train.on_spike train.spike_window train.spike_score",
    "sequences of a step": "train.global_batch_size train.batch_ramp",
    "how the weights move": "train.beta1 train.beta2 train.epsilon train.momentum train.weight_decay "
    "train.clip_norm train.z_loss",
    "what is rounded": "train.precision train.fp8",
    "what is dropped": "model.dropout",
    "what a token sees": "train.document_mask",
    "which samples come next": "blend inputs.tokens",
}
_REFUSE = {
    "another optimizer's state": "train.optimizer train.optimizer_state",
    "other first weights, and another order of the data": "seed",
    "other first weights": "inputs.from",
    "another first state of the optimizer": "train.from_optimizer",
}


def _table() -> Iterable[Change]:
    rows = {key: Change(key, "resume", why) for why, keys in _RESUME.items() for key in keys.split()}
    rows |= {key: Change(key, "branch", why) for why, keys in _BRANCH.items() for key in keys.split()}
    rows |= {key: Change(key, "refuse", why) for why, keys in _REFUSE.items() for key in keys.split()}
    for name in ParallelConfig.model_fields:
        rows[f"parallel.{name}"] = Change(f"parallel.{name}", "resume", "its weights are the same within rounding")
    for name in ModelConfig.model_fields:
        rows.setdefault(f"model.{name}", Change(f"model.{name}", "refuse", "another model"))
    return rows.values()


CHANGES: dict[str, Change] = {row.key: row for row in _table()}
"""By the key as a recipe has it; `blend` are the shares in which data sets are read, `inputs` digests."""
LAYOUT_OF_DROPOUT = ("parallel.tensor", "parallel.sequence_parallel")
"""With model.dropout they decide what is dropped, and a change is a branch."""


def change_of(key: str, *, dropout: bool = False) -> Change:
    """The row of a setting by its dotted key, or of the section that it is in; what no row has makes another run."""
    if dropout and key in LAYOUT_OF_DROPOUT:
        return Change(key, "branch", "what is dropped")
    parts = key.split(".")
    found = (CHANGES.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
    return next((row for row in found if row), Change(key, "refuse", "another run"))
