"""The bytes of text that each token of a tokenizer stands for.

A byte-level BPE (GPT-2, Llama 3, Qwen) spells each byte as one character; a tokenizer in sentencepiece's manner (Llama
1 and 2, Mistral) writes a space as ▁ and bytes without a token as <0x0A>; a WordPiece (BERT) does not keep the spaces,
so that its tokens stand for no bytes.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import tokenizers

Spelling = Literal["bytes", "spaces", "pieces"]
"""bytes: one character a byte. spaces: text with ▁ for a space. pieces: text from which spaces are lost."""

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def spelling(model: tokenizers.Tokenizer) -> Spelling:
    """How the tokens of a tokenizer spell text."""
    kinds = [*parts(model.decoder), *parts(model.pre_tokenizer)]
    if any(part["type"] == "ByteLevel" for part in kinds):
        return "bytes"
    if any(part["type"] in ("Metaspace", "ByteFallback") or _replaces_spaces(part) for part in kinds):
        return "spaces"
    return "pieces"


def bytes_of_tokens(model: tokenizers.Tokenizer) -> tuple[bytes, ...] | None:
    """The bytes of each token, by id; None where tokens do not keep all of the text."""
    how = spelling(model)
    if how == "pieces":
        return None
    vocabulary: dict[str, int] = model.get_vocab(with_added_tokens=True)
    found = [b""] * (max(vocabulary.values()) + 1)
    added = {number: token.content for number, token in model.get_added_tokens_decoder().items()}
    alphabet = {character: byte for byte, character in enumerate(byte_alphabet())}
    for spelled, number in vocabulary.items():
        if number in added:
            found[number] = added[number].encode()
        elif how == "bytes" and all(character in alphabet for character in spelled):
            found[number] = bytes(alphabet[character] for character in spelled)
        else:
            byte = _BYTE.fullmatch(spelled)
            found[number] = bytes([int(byte[1], 16)]) if byte else spelled.replace(_SPACE, " ").encode()
    return tuple(found)


def byte_alphabet() -> list[str]:
    """The character by which a byte-level BPE spells each byte, 0 … 255 (GPT-2)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def parts(component: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of a normalizer, pre-tokenizer or decoder, those of a sequence one by one; none for None."""
    if component is not None:
        yield from _flat(json.loads(component.__getstate__()))


def _flat(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    inner = next((settings[name] for name in ("decoders", "pretokenizers", "normalizers") if name in settings), None)
    if inner is None:
        yield settings
    else:
        for each in inner:
            yield from _flat(each)


def _replaces_spaces(part: Mapping[str, Any]) -> bool:
    return part["type"] == "Replace" and _SPACE in json.dumps(part, ensure_ascii=False)
