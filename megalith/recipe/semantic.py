"""The section `curate.semantic`: which model embeds documents, and how alike semantic duplicates are."""

from typing import Literal

from pydantic import Field

from megalith.recipe.base import PositiveInt, Section


class SemanticConfig(Section):
    """Semantic duplicates (SemDeDup, 2303.09540): documents that say the same in other words. Off without a `model`."""

    model: str | None = None
    """A model on this machine that embeds texts: a Hugging Face directory (an encoder such as all-MiniLM-L6-v2, or a
    decoder), a .gguf file, or a train or import artifact; `$NAME` is filled in."""
    threshold: float = Field(default=0.95, gt=0.0, lt=1.0)
    """Documents of one cluster with this cosine or more are duplicates, and so are those that others connect. What it
    should be depends on the model: the card shows what each threshold drops."""
    clusters: PositiveInt | Literal["auto"] = "auto"
    """Clusters of spherical k-means; documents of one are compared. auto: the square root of their number."""
    keep: Literal["hard", "easy", "first"] = "hard"
    """Which of duplicates in the first of their data sets is kept: the farthest from its cluster's centre (SemDeDup),
    the nearest, or the one that is kept of other duplicates."""
    tokens: PositiveInt = 256
    """So many tokens from the start of a document are embedded."""
