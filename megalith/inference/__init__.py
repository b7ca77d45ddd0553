"""Questions to a finished model: the log-likelihood of texts, and text of its own."""

from megalith.inference.chat import Message, encode_chat
from megalith.inference.conversation import Conversation
from megalith.inference.draws import draw, keyed_hash
from megalith.inference.engine import Engine, Sequence, TokenEvent
from megalith.inference.generation import generate, prompt_ids, samples, stream, tokens_cut
from megalith.inference.load import LanguageModel, at_precision, load_model, model_digests
from megalith.inference.sampling import Sampling
from megalith.inference.scoring import Advance, Request, Rolled, Score, rolling, score

__all__ = [
    "Advance",
    "Conversation",
    "Engine",
    "LanguageModel",
    "Message",
    "Request",
    "Rolled",
    "Sampling",
    "Score",
    "Sequence",
    "TokenEvent",
    "at_precision",
    "draw",
    "encode_chat",
    "generate",
    "keyed_hash",
    "load_model",
    "model_digests",
    "prompt_ids",
    "rolling",
    "samples",
    "score",
    "stream",
    "tokens_cut",
]
