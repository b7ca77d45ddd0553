"""Questions to a finished model: the log-likelihood of texts, and text of its own."""

from megalith.inference.draws import draw, keyed_hash
from megalith.inference.generation import generate, samples, tokens_cut
from megalith.inference.load import LanguageModel, load_model, model_digests
from megalith.inference.scoring import Advance, Request, Rolled, Score, rolling, score

__all__ = [
    "Advance",
    "LanguageModel",
    "Request",
    "Rolled",
    "Score",
    "draw",
    "generate",
    "keyed_hash",
    "load_model",
    "model_digests",
    "rolling",
    "samples",
    "score",
    "tokens_cut",
]
