"""The audit stage: shallow heuristics, sensitivity to the prompt, and social bias."""

from megalith.audit.audit import audit
from megalith.audit.hans_predictions import hans_predictions

__all__ = ["audit", "hans_predictions"]
