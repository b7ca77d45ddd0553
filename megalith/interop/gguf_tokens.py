"""A tokenizer as the metadata of a GGUF file: the other direction of `gguf_tokenizer`."""

import json
from collections.abc import Mapping
from typing import Any

from megalith.errors import UnsupportedError
from megalith.interop.gguf_tokenizer import LLAMA3, QWEN2
from megalith.tokens import Tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_NO_SCORE = -1e9


def tokenizer_fields(tokenizer: Tokenizer, rows: int) -> dict[str, Any]:
    """The `tokenizer.*` fields, with as many tokens as the embedding has rows.

    Raises UnsupportedError for a tokenizer that llama.cpp would read otherwise, or not at all.
    """
    told = json.loads(tokenizer.to_json())
    model, vocabulary = told["model"], told["model"]["vocab"]
    if model["type"] != "BPE":
        raise UnsupportedError(
            f"GGUF has no place for a tokenizer of the kind {model['type']}.", where="tokenizer.json"
        )
    pieces = [f"[PAD{number}]" for number in range(rows)]
    kinds = [_UNUSED] * rows
    for spelled, number in vocabulary.items():
        pieces[number], kinds[number] = spelled, _NORMAL
    for token in told["added_tokens"]:
        pieces[token["id"]] = token["content"]
        kinds[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    fields: dict[str, Any] = {"tokenizer.ggml.tokens": pieces, "tokenizer.ggml.token_type": kinds}
    if _flat(told.get("pre_tokenizer")) and _flat(told["pre_tokenizer"])[-1]["type"] == "ByteLevel":
        fields |= {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": _words(told),
            "tokenizer.ggml.merges": merges,
        }
    elif model.get("byte_fallback"):
        fields |= _sentencepiece(told, pieces, kinds, merges)
    else:
        raise UnsupportedError("llama.cpp would split words otherwise.", where="tokenizer.json: pre_tokenizer")
    return {**fields, **_conventions(tokenizer)}


def _words(told: Mapping[str, Any]) -> str:
    """llama.cpp's name of the splitting into words."""
    parts = _flat(told["pre_tokenizer"])
    kinds = [part["type"] for part in parts]
    normal = [part["type"] for part in _flat(told.get("normalizer"))]
    if kinds == ["ByteLevel"] and parts[0]["use_regex"] and not parts[0]["add_prefix_space"] and not normal:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"] and parts[1]["use_regex"] and not normal:
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not parts[1]["use_regex"]:
        pattern = parts[0]["pattern"].get("Regex")
        if pattern == LLAMA3 and not normal:
            return "llama-bpe"
        if pattern == QWEN2 and normal in ([], ["NFC"]):
            return "qwen2"
    raise UnsupportedError(
        "llama.cpp has no name for this splitting into words.", where="tokenizer.json: pre_tokenizer"
    )


def _sentencepiece(told: Mapping[str, Any], pieces: list[str], kinds: list[int], merges: list[str]) -> dict[str, Any]:
    """A BPE in sentencepiece's manner: the score of a piece is the rank of the first merge that makes it."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault(merge.replace(" ", ""), rank)
    scores = [float(-ranks[piece]) if piece in ranks else _NO_SCORE for piece in pieces]
    for number, piece in enumerate(pieces):
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">") and kinds[number] == _NORMAL:
            kinds[number] = _BYTE
        elif piece == told["model"].get("unk_token"):
            kinds[number] = _UNKNOWN
    prefix = any(part["type"] == "Prepend" for part in _flat(told.get("normalizer")))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


def _conventions(tokenizer: Tokenizer) -> dict[str, Any]:
    conventions = tokenizer.conventions
    ends = conventions.end_of_text
    begin = tokenizer.first if conventions.begin_of_text is None else conventions.begin_of_text
    ids = {
        "bos": begin,
        "eos": ends[0],
        "eot": ends[1] if len(ends) > 1 else None,
        "padding": conventions.padding,
        "unknown": conventions.unknown,
    }
    named = {f"tokenizer.ggml.{name}_token_id": number for name, number in ids.items() if number is not None}
    template = {"tokenizer.chat_template": conventions.chat_template} if conventions.chat_template else {}
    return {
        **named,
        "tokenizer.ggml.add_bos_token": tokenizer.prefix is not None,
        "tokenizer.ggml.add_eos_token": False,
        **template,
    }


def _flat(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if part is None:
        return []
    inner = next((part[name] for name in ("pretokenizers", "normalizers") if name in part), None)
    return [part] if inner is None else [each for one in inner for each in _flat(one)]
