"""What a run will cost before it is spent: the model's shape, its tokens, the layout, seconds and bytes."""

from megalith.planning.budget import budget
from megalith.planning.figures import layout
from megalith.planning.plan import check, plan

__all__ = ["budget", "check", "layout", "plan"]
