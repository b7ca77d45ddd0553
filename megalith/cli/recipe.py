"""The verbs of recipes: `show`, `list`, `changes`."""

from typing import Any

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import human_count, show, table
from megalith.recipe import load_recipe, shipped_recipes
from megalith.recipe.changes import CHANGES
from megalith.recipe.loading import dump, flatten

app = typer.Typer(no_args_is_help=True, help="Look at recipes.")


@app.command("show")
@verb
def recipe_show(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """The resolved whole, with where each value came from."""
    loaded, origins = load_recipe(recipe, overrides or (), model=False)
    values = flatten(loaded)

    def origin(key: str) -> str:
        parts = key.split(".")
        said = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next(
            (origins[name] for name in said if name in origins and not _has_inner(name, key, origins)),
            "default",
        )

    if as_json:
        print_json({"recipe": dump(loaded), "origins": {key: origin(key) for key in values}})
        return
    rows = [(key, _recipe_cell(value), origin(key)) for key, value in values.items()]
    show(table(f"{loaded.name}: {loaded.about}", ("key", "value", "from"), rows, left=3))


def _has_inner(name: str, key: str, origins: dict[str, str]) -> bool:
    """Whether `name` is a section that said other keys but not this one: then the key has its default."""
    return name != key and any(other.startswith(f"{name}.") for other in origins)


def _recipe_cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


@app.command("list")
@verb
def recipe_list(as_json: Json = False) -> None:
    """The shipped recipes."""
    from megalith.arithmetic import parameters

    recipes = {name: load_recipe(path)[0] for name, path in shipped_recipes().items()}
    counts = {
        name: parameters(recipe.model).total if recipe.model.is_sized else None for name, recipe in recipes.items()
    }
    if as_json:
        print_json(
            {
                "recipes": [
                    {"name": name, "parameters": counts[name], "tokens": recipe.train.tokens, "about": recipe.about}
                    for name, recipe in recipes.items()
                ]
            }
        )
        return
    rows = [
        (name, recipe.about, _chosen(counts[name]), _chosen(recipe.train.tokens)) for name, recipe in recipes.items()
    ]
    show(table("Shipped recipes", ("name", "about", "parameters", "tokens"), rows, left=2))


def _chosen(count: int | None) -> str:
    return "the plan's" if count is None else human_count(count)


@app.command("changes")
@verb
def recipe_changes(as_json: Json = False) -> None:
    """The effect of a changed setting on a training that has begun: resume, branch or refuse."""
    rows = [(row.key, row.effect, row.why) for row in CHANGES.values()]
    if as_json:
        print_json({"changes": [dict(zip(("key", "effect", "why"), row, strict=True)) for row in rows]})
        return
    show(table("A training that has begun, and a setting that is changed", ("key", "effect", "why"), rows, left=3))
