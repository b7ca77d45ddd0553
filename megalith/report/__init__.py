"""Self-contained HTML: the expedition log, the dataset card, what was judged; and the table that ends a run."""

from megalith.report.audit_page import write_audit
from megalith.report.card import write_card
from megalith.report.comparison_page import write_comparison
from megalith.report.evaluation_page import write_evaluation
from megalith.report.mixture_page import write_mixtures
from megalith.report.report import write_report
from megalith.report.scaling_page import write_laws, write_study
from megalith.report.summary import summary_table

__all__ = [
    "summary_table",
    "write_audit",
    "write_card",
    "write_comparison",
    "write_evaluation",
    "write_laws",
    "write_mixtures",
    "write_report",
    "write_study",
]
