"""E-mail and IP addresses, phone numbers, keys: masked and counted. One compiled scan finds, a judge each decides."""

from megalith.curation.steps.pii.masks import mask

__all__ = ["mask"]
