"""Training: the loop, its optimizer and schedules, checkpoints, and the processes that it runs in."""

from megalith.training.train import refuse_what_cannot_be_trained, train

__all__ = ["refuse_what_cannot_be_trained", "train"]
