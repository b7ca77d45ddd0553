"""Questions to a finished model: the log-likelihood of texts, and text of its own."""

from megalith.inference.chat import Message, encode_chat
from megalith.inference.conversation import Conversation
from megalith.inference.draws import draw, keyed_hash
from megalith.inference.engine import Engine, Sequence, TokenEvent
from megalith.inference.generation import generate, prompt_ids, samples, stream, tokens_cut
from megalith.inference.load import LanguageModel, at_precision, load_model, model_digests
from megalith.inference.prepared import load_prepared
from megalith.inference.sampling import Sampling
from megalith.inference.scorer import LocalScorer, Scorer
from megalith.inference.scoring import Advance, Rolled, Score, rolling, score, score_as_read
from megalith.inference.spans import Boundary, Prefix, Request

__all__ = [
    "Advance",
    "Boundary",
    "Conversation",
    "Engine",
    "LanguageModel",
    "LocalScorer",
    "Message",
    "Prefix",
    "Request",
    "Rolled",
    "Sampling",
    "Score",
    "Scorer",
    "Sequence",
    "TokenEvent",
    "at_precision",
    "draw",
    "encode_chat",
    "generate",
    "keyed_hash",
    "load_model",
    "load_prepared",
    "model_digests",
    "prompt_ids",
    "rolling",
    "samples",
    "score",
    "score_as_read",
    "stream",
    "tokens_cut",
]
