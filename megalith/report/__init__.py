"""The expedition log: one self-contained HTML page, and the table that ends a run."""

from megalith.report.report import write_report
from megalith.report.summary import summary_table

__all__ = ["summary_table", "write_report"]
