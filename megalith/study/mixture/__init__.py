"""A search for the weights of a blend by proxy runs, as RegMix does (2407.01492)."""

from megalith.study.mixture.design import MixtureSearch
from megalith.study.mixture.searching import search

__all__ = ["MixtureSearch", "search"]
