"""Training: the loop, its optimizer and schedules, checkpoints, and the processes that it runs in."""

from megalith.training.train import train

__all__ = ["train"]
