"""fastText's .bin and .ftz models, read and evaluated without fastText (1607.01759, 1612.03651)."""

from megalith.curation.text.fasttext.model import FastText, read_fasttext

__all__ = ["FastText", "read_fasttext"]
