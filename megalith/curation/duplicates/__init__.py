"""Duplicates among more documents than any memory holds: found by tasks that exchange small records through files.

What comes out is, for each chunk of documents, which of them are copies of which: see `answers`.
"""

from megalith.curation.duplicates.answers import ANSWER, answers_of
from megalith.curation.duplicates.exact import find_exact
from megalith.curation.duplicates.near import find_near

__all__ = ["ANSWER", "answers_of", "find_exact", "find_near"]
