"""The audit stage: shallow heuristics, sensitivity to the prompt, and social bias."""

from megalith.audit.audit import audit

__all__ = ["audit"]
