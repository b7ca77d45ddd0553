"""The tokenizer inside a GGUF file as a `tokenizer.json`, with the model's conventions.

`gpt2` is a byte-level BPE whose words `tokenizer.ggml.pre` says; `llama` is sentencepiece's BPE, whose merges follow
from the scores. The patterns are llama.cpp's (`src/llama-vocab.cpp`), as the models' own tokenizers have them.
"""

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from megalith.errors import InputError, UnsupportedError
from megalith.interop.conventions import document_end
from megalith.recipe.yaml_values import shorten
from megalith.tokens import Conventions

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3, QWEN2 = _WORDS % "{1,3}", _WORDS % ""
GPT2_PRE = ("gpt-2", "olmo", "mpt", "jais")
DIGITS_PRE = ("smollm", "starcoder", "refact", "codeshell")
LLAMA3_PRE = ("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe")
QWEN2_PRE = ("qwen2",)
_CONTROL, _USER_DEFINED = 3, 4


def read_tokenizer(fields: Mapping[str, Any], where: str) -> tuple[tokenizers.Tokenizer, Conventions]:
    """The tokenizer in a file's metadata. Raises UnsupportedError for another kind, InputError where it is damaged."""
    kind, pieces = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.tokens")
    if not isinstance(pieces, list) or not pieces or not all(isinstance(piece, str) for piece in pieces):
        raise InputError("the tokenizer of this file is missing.", where=f"{where}: tokenizer.ggml.tokens")
    if kind not in ("gpt2", "llama"):
        raise UnsupportedError(
            f"{shorten(str(kind))} is not a kind of tokenizer that can be imported; known are gpt2 and llama.",
            where=f"{where}: tokenizer.ggml.model",
        )
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    try:
        if kind == "gpt2":
            model = _byte_level(fields, vocabulary, where)
        else:
            model = _sentencepiece(fields, vocabulary)
        _add_tokens(model, fields, pieces)
    except (InputError, UnsupportedError):
        raise
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"the tokenizer of this file is damaged: {error}.", where=where) from error
    return model, _conventions(fields, model, kind, where)


def _byte_level(fields: Mapping[str, Any], vocabulary: dict[str, int], where: str) -> tokenizers.Tokenizer:
    said = fields.get("tokenizer.ggml.merges", [])
    merges = [(left, right) for left, _, right in (merge.rpartition(" ") for merge in said)]
    pre = fields.get("tokenizer.ggml.pre", "gpt-2")
    model = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=pre in LLAMA3_PRE))
    if pre in GPT2_PRE:
        model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif pre in DIGITS_PRE:
        digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    elif pre in LLAMA3_PRE or pre in QWEN2_PRE:
        split = pre_tokenizers.Split(Regex(LLAMA3 if pre in LLAMA3_PRE else QWEN2), behavior="isolated")
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        model.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
        if pre in QWEN2_PRE:
            model.normalizer = normalizers.NFC()
    else:
        known = ", ".join((*GPT2_PRE, *DIGITS_PRE, *LLAMA3_PRE, *QWEN2_PRE))
        raise UnsupportedError(
            f"{shorten(str(pre))} is not a splitting into words that is known here; known are {known}.",
            where=f"{where}: tokenizer.ggml.pre",
            mend="Import the Hugging Face directory of this model.",
        )
    model.decoder = decoders.ByteLevel()
    return model


def _sentencepiece(fields: Mapping[str, Any], vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    scores = fields["tokenizer.ggml.scores"]
    kinds = fields.get("tokenizer.ggml.token_type", [1] * len(vocabulary))
    ranked = []
    for piece, number in vocabulary.items():
        if kinds[number] == 1:
            halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
            ranked += [(scores[number], *pair) for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
    ranked.sort(key=lambda each: (-each[0], -len(each[1]), -len(each[2])))
    merges = [(left, right) for _, left, right in ranked]
    unknown = list(vocabulary)[fields.get("tokenizer.ggml.unknown_token_id", 0)]
    model = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefix = fields.get("tokenizer.ggml.add_space_prefix", True)
    spaces = normalizers.Replace(" ", "▁")
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces]) if prefix else spaces
    strip = [decoders.Strip(content=" ", left=1)] if prefix else []
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return model


def _add_tokens(model: tokenizers.Tokenizer, fields: Mapping[str, Any], pieces: list[str]) -> None:
    kinds = fields.get("tokenizer.ggml.token_type", [])
    for number, kind in enumerate(kinds):
        token = AddedToken(pieces[number], normalized=False, special=kind == _CONTROL)
        if kind == _CONTROL:
            model.add_special_tokens([token])
        elif kind == _USER_DEFINED:
            model.add_tokens([token])


def _conventions(fields: Mapping[str, Any], model: tokenizers.Tokenizer, kind: str, where: str) -> Conventions:
    def token(name: str) -> int | None:
        number = fields.get(f"tokenizer.ggml.{name}_token_id")
        return number if isinstance(number, int) and model.id_to_token(number) is not None else None

    begin = token("bos")
    ends = [number for number in (token("eos"), token("eot")) if number is not None]
    if not ends:
        raise InputError("nothing says which token ends a text.", where=f"{where}: tokenizer.ggml.eos_token_id")
    by_default = kind == "llama" or fields.get("tokenizer.ggml.pre") in LLAMA3_PRE
    template = fields.get("tokenizer.chat_template")
    return Conventions(
        prefix=begin if fields.get("tokenizer.ggml.add_bos_token", by_default) else None,
        end_of_text=tuple(dict.fromkeys(ends)),
        separator=document_end(model, ends),
        begin_of_text=begin,
        padding=token("padding"),
        unknown=token("unknown"),
        chat_template=template if isinstance(template, str) else None,
    )
