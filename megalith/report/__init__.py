"""The expedition log and the dataset card: self-contained HTML pages; and the table that ends a run."""

from megalith.report.card import write_card
from megalith.report.report import write_report
from megalith.report.summary import summary_table

__all__ = ["summary_table", "write_card", "write_report"]
