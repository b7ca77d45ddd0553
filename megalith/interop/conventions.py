"""How a Hugging Face model begins and ends a text, from the files in which that is said."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from megalith.errors import InputError, UnsupportedError
from megalith.input_files import read_json, read_text
from megalith.tokens import Conventions

DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>")
"""Special tokens that end documents in pretraining, where a chat model names another one as its end."""


def read_tokenizer(path: Path) -> tuple[str, tokenizers.Tokenizer]:
    """The content of a tokenizer.json, and its tokenizer. Raises InputError where it is missing or damaged."""
    if not path.is_file():
        mend = "Save it with `AutoTokenizer.from_pretrained(…).save_pretrained(…)` of transformers, which writes one."
        raise InputError("tokenizer.json is missing.", where=str(path.parent), mend=mend)
    content = read_text(path)
    try:
        return content, tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"this is not a tokenizer.json: {error}.", where=str(path)) from error


def conventions_of(directory: Path, model: tokenizers.Tokenizer, config: Mapping[str, Any]) -> Conventions:
    """The conventions of the model in `directory`. Raises InputError where nothing says how a text ends."""
    said = _section(directory / "tokenizer_config.json")
    ids = {**config, **_section(directory / "generation_config.json")}
    begin = _first(_ids(ids.get("bos_token_id")), _token(model, said.get("bos_token")))
    ends = (
        list(_ids(ids.get("eos_token_id")))
        or [each for each in (_token(model, said.get("eos_token")),) if each is not None]
        or [each for each in (_token(model, said.get("sep_token", "[SEP]")),) if each is not None]
    )
    if not ends:
        raise InputError(
            "nothing says which token ends a text: eos_token_id is missing.",
            where=str(directory / "config.json"),
            mend="Add eos_token_id to config.json.",
        )
    largest = max(model.get_vocab(with_added_tokens=True).values(), default=-1)
    beyond = [number for number in ends if not 0 <= number <= largest]
    if beyond:
        raise InputError(f"eos_token_id {beyond[0]} is no token of the tokenizer.", where=str(directory))
    prefix = _prefix(model)
    if said.get("add_bos_token") is False and prefix == begin:
        prefix = None
    elif said.get("add_bos_token") is True and prefix is None:
        prefix = begin
    return Conventions(
        prefix=prefix,
        end_of_text=tuple(dict.fromkeys(ends)),
        separator=document_end(model, ends),
        begin_of_text=_known(begin, largest),
        padding=_known(_first(_ids(ids.get("pad_token_id")), _token(model, said.get("pad_token"))), largest),
        unknown=_token(model, said.get("unk_token")),
        chat_template=_chat_template(directory, said),
    )


def document_end(model: tokenizers.Tokenizer, ends: list[int]) -> int | None:
    """The special token that ends documents, where it is not the first of `ends`."""
    special = {token.content: number for number, token in model.get_added_tokens_decoder().items() if token.special}
    found = next((special[token] for token in DOCUMENT_ENDS if token in special), None)
    return None if found == ends[0] else found


def _prefix(model: tokenizers.Tokenizer) -> int | None:
    """The token that the tokenizer itself puts in front of a text."""
    post = model.post_processor
    if post is None:
        return None
    model.no_truncation()
    model.no_padding()
    plain, whole = (model.encode("a", add_special_tokens=added).ids for added in (False, True))
    before = next((place for place in range(len(whole)) if whole[place : place + len(plain)] == plain), 0)
    if before > 1:
        raise UnsupportedError(
            f"this tokenizer puts {before} tokens in front of a text, and one can be held.", where="post_processor"
        )
    return int(whole[0]) if before else None


def _chat_template(directory: Path, said: Mapping[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    found = said.get("chat_template") or _section(directory / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def _section(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    told = read_json(path)
    if not isinstance(told, dict):
        raise InputError("this is not a JSON object.", where=str(path))
    return told


def _ids(value: Any) -> Iterator[int]:
    """The ids in an id, a list of ids, or nothing."""
    yield from (each for each in (value if isinstance(value, list) else [value]) if type(each) is int)


def _token(model: tokenizers.Tokenizer, value: Any) -> int | None:
    spelled = value.get("content") if isinstance(value, dict) else value
    number: int | None = model.token_to_id(spelled) if isinstance(spelled, str) else None
    return number


def _first(given: Iterator[int], otherwise: int | None) -> int | None:
    return next(given, otherwise)


def _known(number: int | None, largest: int) -> int | None:
    return number if number is not None and 0 <= number <= largest else None
