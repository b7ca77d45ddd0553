"""Rules on the address alone: lists of domains and addresses, words in it, a bare IP address."""

from megalith.curation.steps.urls.rules import UrlRules, read_rules, reasons

__all__ = ["UrlRules", "read_rules", "reasons"]
