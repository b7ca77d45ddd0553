"""Document rules of Gopher (2112.11446 §A1), C4 (1910.10683 §2.2), FineWeb (2406.17557 §3), and MT-NLG's least length.

Signals are computed once, a number each; the decision is apart from them. Stop words and thresholds follow the
document's language. Rules judge whole documents: the lines that
C4 would leave out of a document are counted, not removed.
"""

from megalith.curation.steps.heuristics.by_language import held
from megalith.curation.steps.heuristics.rules import reasons
from megalith.curation.steps.heuristics.signals import signal_table

__all__ = ["held", "reasons", "signal_table"]
