"""From pages to documents: the crawl, and the funnel from raw pages to training, validation and tasks."""

from megalith.curation.crawling.crawl import crawl
from megalith.curation.curate import curate

__all__ = ["crawl", "curate"]
