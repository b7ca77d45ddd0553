"""Semantic duplicates: spherical k-means over embeddings, cosines within clusters, connected components (SemDeDup).

After Abbas et al. (2303.09540) and NeMo Curator. What is computed depends on the embeddings and their order alone: all
products are of fixed shapes, on one thread.
"""

from megalith.curation.steps.semantic.components import Linked, link
from megalith.curation.steps.semantic.kmeans import assign, train

__all__ = ["Linked", "assign", "link", "train"]
