"""Who turns texts into ids: Hugging Face's `tokenizers`, or `gigatoken` where it is installed and gives the same.

The first is the oracle. The second must give its very ids on texts of the corpus and on spellings of special tokens,
letter by letter; else, and where it raises anything, the first does the work.
"""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from megalith.console import note
from megalith.tokens.conventions import END_OF_TEXT, OURS
from megalith.tokens.tokenizer import BERT_TOKENS, Tokenizer, cut_runs, whole_characters

Encoded = tuple[NDArray[Any], NDArray[np.int64]]
"""The ids of several texts end to end, each followed by `<|endoftext|>`, and how many there are of each."""
Encode = Callable[[Sequence[str]], Encoded]
EncoderName = Literal["tokenizers", "gigatoken"]

_PROBES = (
    *("", " ", "\n\n", "\r\n \u00a0", "isn't it  'S\t", "石は重い。", "e\u0301\u200b\ufffd", "x\ud800y"),
    *(f"a{token}b {token}" for token in (END_OF_TEXT, *BERT_TOKENS)),
)


def encoder(name: EncoderName, tokenizer: Tokenizer) -> Encode:
    """The function that encodes with this library."""
    ids_of = _hugging_face(tokenizer) if name == "tokenizers" else _gigatoken(tokenizer)

    def encode(texts: Sequence[str]) -> Encoded:
        ids, lengths = ids_of(texts)
        ends = np.cumsum(lengths)
        return np.insert(ids, ends, tokenizer.end_of_text), lengths + 1

    return encode


def choose_encoder(tokenizer: Tokenizer, sample: Sequence[str]) -> EncoderName:
    """gigatoken where it is installed and gives the ids of `tokenizers` for all of `sample`, else tokenizers.

    Tokenizers that were made elsewhere are left to the latter.
    """
    if find_spec("gigatoken") is None or tokenizer.conventions != OURS:
        return "tokenizers"
    texts = [*sample, *_PROBES]
    try:
        if _same(encoder("gigatoken", tokenizer)(texts), encoder("tokenizers", tokenizer)(texts)):
            return "gigatoken"
        why = "it does not give the ids of tokenizers"
    except BaseException as error:  # a young library, whose panics are no Exceptions
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        why = f"{type(error).__name__}: {error}"
    note(f"gigatoken is left alone here: {why}")
    return "tokenizers"


def _same(found: Encoded, wanted: Encoded) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))


def _hugging_face(tokenizer: Tokenizer) -> Encode:
    def ids_of(texts: Sequence[str]) -> Encoded:
        documents = tokenizer.encode_batch(texts)
        lengths = np.fromiter(map(len, documents), np.int64, len(documents))
        flat = (
            np.concatenate([np.asarray(ids, np.uint32) for ids in documents]) if documents else np.empty(0, np.uint32)
        )
        return flat, lengths

    return ids_of


def _gigatoken(tokenizer: Tokenizer) -> Encode:
    awkward: Any = import_module("awkward")  # both are there only with the extra `fast`
    gigatoken: Any = import_module("gigatoken")
    # With its added tokens it would take a text's "<|endoftext|>" for the end of a document.
    plain = json.dumps(json.loads(tokenizer.to_json()) | {"added_tokens": []})
    model = gigatoken.Tokenizer.from_json(plain)

    def ids_of(texts: Sequence[str]) -> Encoded:
        pieces = [list(cut_runs(whole_characters(text))) for text in texts]
        rows = model.encode_batch([piece for text in pieces for piece in text], parallel=False)
        lengths = np.asarray(awkward.num(rows)).astype(np.int64)
        firsts = np.cumsum([0, *map(len, pieces[:-1])])
        return np.asarray(awkward.flatten(rows)), np.add.reduceat(lengths, firsts) if len(texts) else lengths

    return ids_of
