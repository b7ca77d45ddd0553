"""From a YAML file (or the name of a shipped recipe) and dotted overrides to a checked Recipe.

Every value's origin is kept (a line of the file, an override, the default), so that errors and `recipe show` can say
where it was said.
"""

import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from megalith.errors import InputError, RecipeError
from megalith.input_files import read_text
from megalith.recipe.base import WHOLE, Section, key_of
from megalith.recipe.explain import explain
from megalith.recipe.machine import cluster_section
from megalith.recipe.whole import Recipe
from megalith.recipe.yaml_values import DEEPEST, UnreadableError, read_yaml, shorten, unprintable

MOST_BYTES = 2**20
"""A recipe of the size of a book is some other file."""

Origins = dict[str, str]
"""Dotted key → where its value was said. A key that is missing here has its default."""
_ALTERNATIVES = {
    "budget.flops": "budget.hours",
    "budget.hours": "budget.flops",
    "cluster.name": "cluster.file",
    "cluster.file": "cluster.name",
}


Overrides = Sequence[str] | Mapping[str, Any]


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with Megalith, by name."""
    folder = Path(str(resources.files("megalith"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(
    source: str | Path | Recipe, overrides: Overrides = (), *, model: bool = True
) -> tuple[Recipe, Origins]:
    """Read a recipe by file or shipped name, apply overrides, check the whole. A Recipe is taken as it is.

    One that says nothing of a model is refused unless `model` is false: it can be curated and tokenized alone.

    Overrides are texts (`section.key=value`, the value YAML), or values by dotted key (`{"budget.hours": 0.1}`).
    Raises InputError where the file is missing or cannot be read, RecipeError where its values cannot be.
    """
    if isinstance(source, Recipe):
        where = source.name
        values, origins = source.model_dump(), dict.fromkeys(flatten(source), where)
        if not source.has_model:
            del values["model"]
    else:
        path = _find(str(source))
        where = str(path)
        values, origins = _read(path)
    if isinstance(overrides, str):
        overrides = [overrides]
    for dotted, value, shown in map(_said, overrides.items() if isinstance(overrides, Mapping) else overrides):
        _apply(dotted, value, f"override {shown!r}", values, origins)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, origins, where) from error
    if model and not recipe.has_model:
        raise RecipeError(
            "model is missing.", where=where, mend="Set it. (`megalith curate` and `megalith tokenize` do without.)"
        )
    return recipe, origins


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Every leaf of the recipe by its dotted key, in the order of the file format; none of a model that it lacks."""
    flat: dict[str, Any] = {}

    def walk(section: Section, prefix: str) -> None:
        for name in type(section).model_fields:
            value, key = getattr(section, name), f"{prefix}{key_of(type(section), name)}"
            if isinstance(value, Section):
                walk(value, f"{key}.")
            elif isinstance(value, dict) and value and all(isinstance(one, Section) for one in value.values()):
                for inner, one in value.items():
                    walk(one, f"{key}.{inner}.")
            else:
                flat[key] = value

    walk(recipe, "")
    return flat if recipe.has_model else {key: value for key, value in flat.items() if not key.startswith("model.")}


def _find(source: str) -> Path:
    """The file of that name, or else the shipped recipe: a directory does not stand in the way."""
    shipped = shipped_recipes()
    path = Path(source)
    if _stands(path) and not path.is_dir():
        return path
    if path.suffix in ("", ".yaml") and path.parent in (Path(), Path("recipes")) and path.stem in shipped:
        return shipped[path.stem]
    if source in shipped:  # names with a dot in them: gpt2-8.3b
        return shipped[source]
    if _stands(path):
        raise InputError(
            "this is a directory, and a recipe is a YAML file.",
            where=shorten(source),
            mend="Pass the file in it, or the name of a shipped recipe: see `megalith recipe list`.",
        )
    if "=" in source:
        raise InputError(
            "this is an override, and a recipe comes before it.",
            where=shorten(source),
            mend="Pass a recipe first, such as quickstart.",
        )
    close = difflib.get_close_matches(path.stem if path.suffix == ".yaml" else source, shipped, n=3, cutoff=0.5)
    mend = f"Did you mean {' or '.join(close)}?" if close else f"Shipped recipes: {', '.join(shipped)}."
    raise InputError("neither a file nor a shipped recipe has this name.", where=shorten(source), mend=mend)


def _stands(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, a folder that may not be entered, a NUL
        return False


def _read(path: Path) -> tuple[dict[str, Any], Origins]:
    shown = f"recipes/{path.name}" if path == shipped_recipes().get(path.stem) else str(path)
    try:
        document = read_yaml(read_text(path, most=MOST_BYTES))
    except UnreadableError as error:
        place = shown if error.line is None else f"{shown}:{error.line}"
        raise RecipeError(f"{error.what}.", where=place) from error
    if not isinstance(document.value, dict):
        raise RecipeError(
            "a recipe is a mapping of sections.", where=str(path), mend="See `megalith recipe show quickstart`."
        )
    return document.value, {dotted: f"{shown}:{line}" for dotted, line in document.lines.items()}


def _said(override: str | tuple[str, Any]) -> tuple[str, Any, str]:
    """Key, value and spelling of an override."""
    if not isinstance(override, str):
        dotted, value = override
        return dotted, value, shorten(f"{dotted}={value}")
    dotted, equals, text = override.partition("=")
    shown = shorten(override)
    if not equals:
        raise RecipeError(f"{shown!r} is neither a recipe nor an override.", mend="An override is section.key=value.")
    try:
        return dotted, read_yaml(text).value, shown
    except UnreadableError as error:
        raise RecipeError(f"its value cannot be read: {error.what}.", where=f"override {shown!r}") from error


def _apply(dotted: str, value: Any, where: str, values: dict[str, Any], origins: Origins) -> None:
    *parents, last = dotted.split(".")
    if not last or not all(parents):
        raise RecipeError("a part of its key is empty.", where=where, mend="Set section.key=value.")
    character = unprintable(dotted)
    if character is not None:
        raise RecipeError(f"{character} stands in its key.", where=where, mend="Set section.key=value.")
    if len(parents) > DEEPEST:
        raise RecipeError(f"its key has {len(parents) + 1:,} parts.", where=where, mend="Set section.key=value.")
    target: dict[str, Any] = values
    for parent in parents:
        inner = target.get(parent)
        if parent == "cluster" and isinstance(inner, str):  # `cluster: FILE.yaml`
            inner = target[parent] = cluster_section(inner)
            origins[f"cluster.{next(iter(inner))}"] = origins.get("cluster", where)
        if inner is None:  # the section is not in the file, or is empty there
            inner = target[parent] = {}
        if not isinstance(inner, dict):
            raise RecipeError(f"{parent} is a value, not a section.", where=where, mend=f"Set {parent} itself.")
        target = inner
    target[last] = value
    other = _ALTERNATIVES.get(dotted)
    if other in origins and not origins[other].startswith("override"):  # of two that exclude each other, the override
        target.pop(other.rpartition(".")[2], None)
        origins[other] = f"none: {where} takes its place"
    for inside in [key for key in origins if key.startswith(f"{dotted}.")]:
        del origins[inside]
    origins[dotted] = where


def dump(recipe: Recipe) -> Mapping[str, Any]:
    """The recipe as plain values, fit for JSON and YAML, and for being read again."""
    return recipe.model_dump(mode="json", context=WHOLE, exclude=None if recipe.has_model else {"model"})
