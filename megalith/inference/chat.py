"""A conversation as the tokens that a model's chat template makes of it.

Templates are Jinja, rendered in a sandbox with what Hugging Face's have at hand. Their special tokens become tokens.
One that is spelled out in a message stays plain text, so that nobody can end a turn or begin another's by writing it.
"""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from megalith.errors import InputError
from megalith.tokens import GENERATION, Tokenizer

Message = Mapping[str, str]
"""`role` (system, user, assistant) and `content`."""


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """The tokens of a conversation, up to where the assistant's answer begins.

    Raises InputError where the model has no chat template, and where the template refuses these messages.
    """
    template = tokenizer.conventions.chat_template
    if template is None:
        raise InputError(
            "this model has no chat template: it was not taught to converse.",
            where=GENERATION,
            mend="Use `megalith generate`, or import a model that has one.",
        )
    specials = sorted(tokenizer.added_tokens.values(), key=len, reverse=True)
    if not specials:
        return tokenizer.encode_with_specials(render(template, messages, _named_tokens(tokenizer)))
    mark = secrets.token_hex(8)
    spelled = re.compile("|".join(map(re.escape, specials)))
    marked = [
        {name: spelled.sub(lambda found: f"{mark}{specials.index(found[0])}.", text) for name, text in message.items()}
        for message in messages
    ]
    text = render(template, marked, _named_tokens(tokenizer))
    pieces = re.split(rf"{mark}(\d+)\.", text)
    return [
        token
        for place, piece in enumerate(pieces)
        for token in (tokenizer.encode(specials[int(piece)]) if place % 2 else tokenizer.encode_with_specials(piece))
    ]


def render(template: str, messages: Sequence[Message], tokens: Mapping[str, str]) -> str:
    """The text that a template makes of messages, with `tokens` (bos_token, eos_token) as it knows them.

    Raises InputError where the template is wrong or refuses.
    """
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda layout: datetime.now().strftime(layout)}
    try:
        compiled = environment.from_string(template)
        return compiled.render(messages=list(messages), add_generation_prompt=True, **tokens)
    except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise InputError(
            f"the chat template does not take these messages: {error}.",
            where=GENERATION,
            mend="Let user and assistant take turns, or leave out the system's message.",
        ) from error


def _named_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    said = tokenizer.conventions
    begin = said.prefix if said.begin_of_text is None else said.begin_of_text
    ids = {"bos_token": begin, "eos_token": said.end_of_text[0], "pad_token": said.padding, "unk_token": said.unknown}
    return {name: tokenizer.added_tokens.get(number, "") for name, number in ids.items() if number is not None}


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **settings: Any) -> str:
    """Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **settings)


def _refuse(message: str) -> None:
    raise TemplateError(message)
