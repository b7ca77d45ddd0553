"""Arguments that the verbs share, in whichever form they come."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.recipe import Overrides, Recipe, load_recipe

RecipeSource = str | Path | Recipe
"""A recipe's file, the name of a shipped one, or the recipe itself."""
Place = str | Path
Places = Place | Sequence[Place]


def load(recipe: RecipeSource, overrides: Overrides, *, model: bool = True) -> Recipe:
    return load_recipe(recipe, overrides, model=model)[0]


def directory_of(recipe: Recipe, output: Place | None) -> Path:
    """The directory of an expedition: `output`, or runs/NAME. Raises UnsupportedError for an address."""
    if output is not None:
        from megalith.storage import refuse_remote

        refuse_remote(
            output,
            what="a run needs a directory of this machine: a store has neither renames nor locks.",
            mend="Use --output DIR, train.mirror for the checkpoints, and `megalith push DIR ADDRESS` at the end.",
        )
    return Path("runs") / recipe.name if output is None else Path(output)


def path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def paths(places: Places) -> list[Path]:
    return [Path(place) for place in ([places] if isinstance(places, str | Path) else places)]


def check_file(file: Path) -> None:
    """Try that `file` can be written, before long work; its folder is made.

    Raises InputError where a directory stands there, OSError where nothing can be written.
    """
    if file.is_dir():
        raise InputError("a directory stands where a file is wanted.", where=str(file), mend="Name a file in it.")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=file.parent):
        pass
