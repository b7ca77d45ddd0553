"""How good a document is: a linear classifier of hashed words, or a fastText model, and the Pareto rule that keeps."""

from megalith.curation.steps.quality.classifier import Classifier, Judge, kept, load_judge, train

__all__ = ["Classifier", "Judge", "kept", "load_judge", "train"]
