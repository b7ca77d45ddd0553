"""From a YAML file (or the name of a shipped recipe) and dotted overrides to a checked Recipe.

Every value's origin is kept (a line of the file, an override, the default), so that errors and `recipe show` can say
where it was said.
"""

import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from megalith.errors import InputError, RecipeError
from megalith.recipe.base import Section
from megalith.recipe.whole import Recipe

Origins = dict[str, str]
"""Dotted key → where its value was said. A key that is missing here has its default."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Megalith, by name."""
    folder = Path(str(resources.files("megalith"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> tuple[Recipe, Origins]:
    """Read a recipe by file or shipped name, apply `section.key=value` overrides, check the whole.

    Raises InputError when there is no such file, RecipeError when what it says cannot be.
    """
    path = _find(str(source))
    values, origins = _read(path)
    for override in overrides:
        _apply(override, values, origins)
    try:
        return Recipe.model_validate(values), origins
    except ValidationError as error:
        raise _explain(error.errors()[0], len(error.errors()), origins, path) from error


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Every leaf of the recipe by its dotted key, in the order of the file format."""
    flat: dict[str, Any] = {}

    def walk(section: Section, prefix: str) -> None:
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, Section):
                walk(value, f"{prefix}{name}.")
            elif isinstance(value, dict) and value and all(isinstance(one, Section) for one in value.values()):
                for key, one in value.items():
                    walk(one, f"{prefix}{name}.{key}.")
            else:
                flat[f"{prefix}{name}"] = value

    walk(recipe, "")
    return flat


def _find(source: str) -> Path:
    shipped = shipped_recipes()
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError("this is a directory, and a recipe is a YAML file.", where=source)
    if path.suffix in ("", ".yaml") and path.parent in (Path(), Path("recipes")) and path.stem in shipped:
        return shipped[path.stem]
    if source in shipped:  # names with a dot in them: gpt2-8.3b
        return shipped[source]
    close = difflib.get_close_matches(path.stem if path.suffix == ".yaml" else source, shipped, n=3, cutoff=0.5)
    mend = f"Did you mean {' or '.join(close)}?" if close else f"Shipped recipes: {', '.join(shipped)}."
    raise InputError("there is no such recipe file, nor a shipped recipe of that name.", where=source, mend=mend)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: `3e-4` and `12e9` are numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _read(path: Path) -> tuple[dict[str, Any], Origins]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"this recipe cannot be read: {error}.", where=str(path)) from error
    try:
        root = yaml.compose(text, Loader=_Loader)
        values = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError("this is not YAML: " + " ".join(str(error).split()), where=str(path)) from error
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(
            "a recipe is a mapping of sections.",
            where=str(path),
            mend="See `megalith recipe show quickstart`.",
        )
    origins: Origins = {}
    shown = f"recipes/{path.name}" if path == shipped_recipes().get(path.stem) else str(path)
    _locate(root, "", shown, origins)
    return values, origins


def _locate(node: yaml.MappingNode, prefix: str, shown: str, origins: Origins) -> None:
    for key, value in node.value:
        dotted = f"{prefix}{key.value}"
        if dotted in origins:
            raise RecipeError(
                f"{dotted} is given twice.",
                where=f"{shown}:{key.start_mark.line + 1}",
                mend=f"See {origins[dotted]}.",
            )
        origins[dotted] = f"{shown}:{key.start_mark.line + 1}"
        if isinstance(value, yaml.MappingNode):
            _locate(value, f"{dotted}.", shown, origins)


def _apply(override: str, values: dict[str, Any], origins: Origins) -> None:
    dotted, equals, text = override.partition("=")
    where = f"override {override!r}"
    if not equals or not dotted:
        raise RecipeError(
            f"{override!r} is neither a recipe nor an override.", mend="An override is section.key=value."
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError("the value is not YAML.", where=where) from error
    *parents, last = dotted.split(".")
    target: dict[str, Any] = values
    for parent in parents:
        inner = target.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{parent} is a value, not a section.", where=where)
        target = inner
    target[last] = value
    for inside in [key for key in origins if key.startswith(f"{dotted}.")]:
        del origins[inside]
    origins[dotted] = where


def _explain(error: ErrorDetails, count: int, origins: Origins, path: Path) -> RecipeError:
    """One pydantic error as one paragraph, with the line that said it."""
    location = [str(part) for part in error["loc"]]
    dotted = ".".join(part for part in location if not part.isdigit())
    where = next(
        (
            origins[".".join(location[:length])]
            for length in range(len(location), 0, -1)
            if ".".join(location[:length]) in origins
        ),
        str(path),
    )
    more = f" ({count - 1} more after this one.)" if count > 1 else ""
    if error["type"] == "extra_forbidden":
        keys = _keys(location[:-1])
        close = difflib.get_close_matches(location[-1], keys, n=1, cutoff=0.4)
        mend = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(keys)}."
        section = ".".join(location[:-1])
        there = f"in the section {section}" if section else "in a recipe"
        return RecipeError(f"there is no key {location[-1]!r} {there}.", where=where, mend=mend + more)
    if error["type"] == "missing":
        return RecipeError(f"{dotted} is missing.", where=where, mend=f"Every recipe gives it.{more}")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        where = _override_named(message, location, origins) or where
        what = f"{dotted}: {message}." if dotted else f"{message}."
    else:
        what = f"{dotted} is {error['input']!r}: {message[0].lower()}{message[1:]}."
    return RecipeError(what, where=where, mend=more.strip() or None)


def _override_named(message: str, location: Sequence[str], origins: Origins) -> str | None:
    """The override within `location` whose key the message names: of a check of several keys, the likeliest cause."""
    within = "".join(f"{part}." for part in location)
    named = (key for key in origins if key.startswith(within) and re.search(rf"\b{key.rpartition('.')[2]}\b", message))
    return next((origins[key] for key in named if origins[key].startswith("override")), None)


def _keys(location: Sequence[str]) -> list[str]:
    """The keys that the section at `location` knows."""
    section: type[BaseModel] = Recipe
    for part in location:
        field = section.model_fields.get(part)
        inner = _section_of(field.annotation) if field else None
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for arg in typing.get_args(annotation) if (found := _section_of(arg))), None)
    return None


def dump(recipe: Recipe) -> Mapping[str, Any]:
    """The recipe as plain values, fit for JSON and YAML."""
    return recipe.model_dump(mode="json")
