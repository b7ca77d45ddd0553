"""The audit stage: which shortcuts the model takes (HANS), and what it associates with occupations."""

from megalith.audit.audit import audit

__all__ = ["audit"]
