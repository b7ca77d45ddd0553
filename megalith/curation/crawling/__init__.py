"""Pages made here, for the quickstart: pydoc's of the modules that this Python can import, as a WARC."""

from megalith.curation.crawling.crawl import crawl

__all__ = ["crawl"]
