"""The documents of a curation as they lie on disk: the table of their small columns, their units, earlier corpora."""
