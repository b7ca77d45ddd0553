"""A tokenizer and a model's conventions as the files of a Hugging Face directory."""

import json
from typing import Any

from megalith.recipe import ModelConfig
from megalith.tokens import Tokenizer


def tokenizer_json(tokenizer: Tokenizer) -> str:
    """The content of tokenizer.json; the model's prefix is in front of a text where special tokens are asked for."""
    told = json.loads(tokenizer.to_json())
    prefix = tokenizer.prefix
    if prefix is not None and told.get("post_processor") is None:
        token = _spelled(told, prefix)
        first, text, second = {"SpecialToken": {"id": token, "type_id": 0}}, _sequence("A", 0), _sequence("B", 1)
        told["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [first, text],
            "pair": [first, text, second],
            "special_tokens": {token: {"id": token, "ids": [prefix], "tokens": [token]}},
        }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def tokenizer_config(tokenizer: Tokenizer, config: ModelConfig) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    conventions = tokenizer.conventions
    named = {
        "bos_token": tokenizer.prefix if conventions.begin_of_text is None else conventions.begin_of_text,
        "eos_token": conventions.end_of_text[0],
        "pad_token": conventions.padding,
        "unk_token": conventions.unknown,
    }
    if tokenizer.special is not None:
        special = tokenizer.special
        named |= {"pad_token": special.pad, "cls_token": special.cls, "sep_token": special.sep}
        named["mask_token"] = special.mask
    told = json.loads(tokenizer.to_json())
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.sequence_length,
        "clean_up_tokenization_spaces": False,
        **{name: _spelled(told, number) for name, number in named.items() if number is not None},
        **({"chat_template": conventions.chat_template} if conventions.chat_template else {}),
    }


def token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """The ids that config.json and generation_config.json name."""
    conventions = tokenizer.conventions
    begin = tokenizer.prefix if conventions.begin_of_text is None else conventions.begin_of_text
    ends = list(conventions.end_of_text)
    ids = {"bos_token_id": begin, "eos_token_id": ends[0] if len(ends) == 1 else ends}
    return {name: value for name, value in {**ids, "pad_token_id": conventions.padding}.items() if value is not None}


def _sequence(name: str, kind: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": kind}}


def _spelled(told: dict[str, Any], number: int) -> str:
    added = {token["id"]: token["content"] for token in told["added_tokens"]}
    vocabulary = told["model"]["vocab"]
    if number in added:
        return str(added[number])
    if isinstance(vocabulary, list):
        return str(vocabulary[number][0])
    return next(str(spelled) for spelled, known in vocabulary.items() if known == number)
