"""A scaling study: a sweep of small runs designed for FLOP budgets, run, collected, fitted and drawn."""

from megalith.study.design import Cell, Design, design, further
from megalith.study.running import study

__all__ = ["Cell", "Design", "design", "further", "study"]
