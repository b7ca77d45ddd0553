"""The evaluate stage: perplexity, and tasks with solved examples in the prompt, all with intervals."""

from megalith.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
