"""Files of documents, here, behind https:// or in S3: WARC, ARC, JSON lines, Parquet, text and pages, also compressed.

A source is found, cut into parts, and read a document at a time; what is damaged is passed by and counted.
"""

from megalith.curation.reading.read import find_sources, read_documents
from megalith.curation.reading.warc import Document

__all__ = ["Document", "find_sources", "read_documents"]
