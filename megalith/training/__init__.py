"""Training: the loop, its optimizer and schedules, checkpoints, and the processes that it runs in."""

from megalith.training.branching import branch_at
from megalith.training.slurm import take_up_slurm
from megalith.training.train import refuse_what_cannot_be_trained, train

__all__ = ["branch_at", "refuse_what_cannot_be_trained", "take_up_slurm", "train"]
