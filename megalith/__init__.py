"""Megalith: from a compute budget to an audited language model."""

__version__ = "0.1.0"
