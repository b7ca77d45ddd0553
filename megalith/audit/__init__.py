"""The audit stage: shallow heuristics (HANS), and associations of occupations with gender."""

from megalith.audit.audit import audit

__all__ = ["audit"]
