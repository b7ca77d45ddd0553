"""Files of documents, here, behind https:// or in S3: crawls, JSON, tables, text and pages, also compressed.

A source is found, cut into parts, and read a document at a time; what is damaged is passed by and counted.
"""

from megalith.curation.reading.document import BESIDE, EMPTY_FILES, UNKNOWN_CHARSET, Document
from megalith.curation.reading.folders import Found, find, find_files, is_pattern
from megalith.curation.reading.how import AS_IT_IS, How
from megalith.curation.reading.lines import ENDLESS
from megalith.curation.reading.opening import measured, open_bytes, open_file
from megalith.curation.reading.read import KINDS, kind_of, read_documents
from megalith.curation.reading.remote import address_of
from megalith.curation.reading.remote_sources import Remote, find_remote, title_of

__all__ = [
    "AS_IT_IS",
    "BESIDE",
    "EMPTY_FILES",
    "ENDLESS",
    "KINDS",
    "UNKNOWN_CHARSET",
    "Document",
    "Found",
    "How",
    "Remote",
    "address_of",
    "find",
    "find_files",
    "find_remote",
    "is_pattern",
    "kind_of",
    "measured",
    "open_bytes",
    "open_file",
    "read_documents",
    "title_of",
]
