"""An error of the recipe's checks as one paragraph: what, where it was said, and the mend."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from megalith.errors import RecipeError
from megalith.recipe.hints import hint
from megalith.recipe.yaml_values import shorten

_WANTED: dict[str, str] = {
    "bool_parsing": "set true or false",
    "bool_type": "set true or false",
    "dict_type": "set a section of keys and values",
    "finite_number": "set a finite number",
    "float_parsing": "set a number",
    "float_type": "set a number",
    "greater_than": "set a number greater than {gt}",
    "greater_than_equal": "set {ge} or more",
    "int_from_float": "set a whole number",
    "int_parsing": "set a whole number",
    "int_parsing_size": "set a whole number below 2^63",
    "int_type": "set a whole number",
    "less_than": "set a number below {lt:,}",
    "less_than_equal": "set {le:,} or less",
    "mapping_type": "set a section of keys and values",
    "model_attributes_type": "it is a section: set its keys, one by one",
    "model_type": "it is a section: set its keys, one by one",
    "none_required": "set null",
    "path_type": "set a path",
    "string_type": "set text, in quotes if it looks like a number",
    "string_too_long": "set at most {max_length} characters",
    "string_too_short": "set at least {min_length} characters",
    "too_long": "set at most {max_length} of them",
    "too_short": "set at least {min_length} of them",
    "tuple_type": "set a list, such as [a, b]",
}
"""pydantic's kinds of error, and the mend."""


MOST_TOLD = 10
"""So many faults of a recipe are told at once."""


def explain(error: ValidationError, origins: Mapping[str, str], source: str) -> RecipeError:
    """All of pydantic's errors, the likeliest first, each with the line or override that said the value."""
    errors = error.errors(include_url=False)
    first = _likeliest(errors)
    told = _explained(first, origins, source)
    others = [_explained(one, origins, source) for one in errors if one is not first]
    others = [one for one in others if str(one) != str(told)]
    if not others:
        return told
    mends = [one.mend for one in (told, *others)]  # one that has been said, such as a section's keys, is not said again
    others = [
        RecipeError(one.what, where=one.where, mend=None if one.mend in mends[:place] else one.mend)
        for place, one in enumerate(others, 1)
    ]
    said = " ".join(f"Also: {one}" for one in others[: MOST_TOLD - 1])
    more = f" And {len(others) - MOST_TOLD + 1} more." if len(others) >= MOST_TOLD else ""
    return RecipeError(told.what, where=told.where, mend=f"{told.mend or ''} {said}{more}".strip())


def _explained(first: ErrorDetails, origins: Mapping[str, str], source: str) -> RecipeError:
    """One error, with the line or override that said the value."""
    location = [str(part) for part in first["loc"]]
    dotted = shorten(".".join(part for part in location if not part.isdigit()))
    within = (said for key, said in origins.items() if key.startswith(".".join(location) + "."))
    where = _said(location, origins, next(within, source))
    if first["type"] == "extra_forbidden":
        section = ".".join(location[:-1])
        said = f"the section {section} has no key" if section else "a recipe has no key"
        return RecipeError(f"{said} {shorten(location[-1])!r}.", where=where, mend=hint(location, first["input"]))
    if first["type"] == "missing":
        return RecipeError(f"{dotted} is missing.", where=where, mend="Set it.")
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        where = _override_named(message, location, origins) or where
        return RecipeError(f"{dotted}: {message}." if dotted else f"{message}.", where=where)
    return RecipeError(f"{dotted} is {_shown(first['input'])}: {_mend(first)}.", where=where)


def explain_all(error: ValidationError, origins: Mapping[str, str], source: str) -> RecipeError:
    """All of pydantic's errors in one sentence each, with the lines that said the values."""
    told = []
    for one in error.errors(include_url=False):
        location = [str(part) for part in one["loc"] if not isinstance(part, int)]
        dotted = shorten(".".join(location))
        where = _said(location, origins, source)
        if one["type"] == "extra_forbidden":
            said = f"{dotted} is not a key here"
        elif one["type"] == "missing":
            said = f"{dotted} is missing"
        elif one["type"] == "value_error":
            message = one["msg"].removeprefix("Value error, ")
            said = f"{dotted}: {message}" if dotted else message
        else:
            said = f"{dotted} is {_shown(one['input'])}: {_mend(one)}"
        line = where.removeprefix(f"{source}:")
        told.append(f"line {line}: {said}" if line != where else said)
    told = list(dict.fromkeys(told))
    count = f"{len(told)} things are wrong: " if len(told) > 1 else ""
    return RecipeError(f"{count}{'; '.join(told)}.", where=source)


def _said(location: Sequence[str], origins: Mapping[str, str], otherwise: str) -> str:
    """The line or override that said a value, or the nearest above it."""
    keys = (".".join(location[:length]) for length in range(len(location), 0, -1))
    return next((origins[key] for key in keys if key in origins), otherwise)


def _likeliest(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """An unknown key before a missing one: it is often the same, misspelt."""
    unknown = (error for error in errors if error["type"] == "extra_forbidden")
    return next(unknown, errors[0]) if errors[0]["type"] == "missing" else errors[0]


def _mend(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return _one_of(error)
    if error["type"] == "string_pattern_mismatch":  # of the recipe's name alone
        return "set letters, digits, '.', '_' and '-', the first of them a letter or a digit"
    wanted = _WANTED.get(error["type"])
    if wanted is not None:
        return wanted.format(**error.get("ctx", {}))
    message = error["msg"]
    return f"{message[0].lower()}{message[1:]}"


def _one_of(error: ErrorDetails) -> str:
    """The values that a key takes, and the nearest of them."""
    values = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
    close = difflib.get_close_matches(str(error["input"]), values, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"set {', '.join(values[:-1])} or {values[-1]}{meant}" if len(values) > 1 else f"set {values[0]}"


def _shown(value: Any) -> str:
    """A value as the recipe writes it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shorten(repr(value))


def _override_named(message: str, location: Sequence[str], origins: Mapping[str, str]) -> str | None:
    """The override within `location` whose key the message names: of a check of several keys, the likeliest cause."""
    within = "".join(f"{part}." for part in location)
    named = (
        key
        for key in origins
        if key.startswith(within) and re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", message)
    )
    return next((origins[key] for key in named if origins[key].startswith("override")), None)
