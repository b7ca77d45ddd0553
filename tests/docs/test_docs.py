"""The pages say what the command does: verbs, overrides and recipes in them are tried against the code."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from megalith.cli import app
from megalith.recipe import load_recipe

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    DOCS / "index.md",
    DOCS / "how-a-recipe-is-read.md",
    DOCS / "artifacts.md",
    *sorted((DOCS / "verbs").glob("*.md")),
]


def _walk(command: Any, name: str = "") -> dict[str, Any]:
    """Every verb of the command by its words."""
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for word, inner in command.commands.items():
        found |= _walk(inner, f"{name} {word}".strip())
    return found


VERBS = _walk(typer.main.get_command(app))
UNBUILT = {verb for verb, command in VERBS.items() if "not built yet" in (command.help or "")}


def _commands() -> list[list[str]]:
    """The `megalith` lines of every page, as words."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return [shlex.split(line) for line in re.findall(r"^\$ megalith (.*)$", text, flags=re.MULTILINE)]


def test_every_command_on_a_page_is_a_verb_with_those_options() -> None:
    for words in _commands():
        name = words[0] if words[0] in VERBS else " ".join(words[:2])
        options = {option for parameter in VERBS[name].params for option in parameter.opts}
        given = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(words)))
        assert given <= options, (name, given - options)


def test_every_override_on_a_page_is_one_that_a_recipe_takes() -> None:
    overrides = [word for words in _commands() for word in words if re.fullmatch(r"[a-z_]+\.[a-z_0-9.]+=.+", word)]
    assert overrides
    right = [override for override in overrides if "lerning_rate" not in override]  # the page on errors shows one
    load_recipe("quickstart", right)


def test_the_recipe_on_the_page_about_recipes_is_whole(tmp_path: Path) -> None:
    page = (DOCS / "how-a-recipe-is-read.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "small.yaml").write_text(example)
    recipe, _ = load_recipe(tmp_path / "small.yaml")
    assert recipe.train.tokens == 20_000_000
    assert recipe.train.learning_rate == 1e-3


def test_every_verb_has_a_page() -> None:
    named = {page.stem for page in (DOCS / "verbs").glob("*.md")}
    curate = (DOCS / "verbs" / "curate.md").read_text(encoding="utf-8")
    assert "megalith crawl" in curate
    assert {verb.split()[0] for verb in set(VERBS) - UNBUILT - {"crawl"}} <= named


def test_the_page_of_what_is_missing_names_what_is_refused_and_nothing_else() -> None:
    page = (DOCS / "verbs" / "not-yet.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)) == UNBUILT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_one_title_and_links_that_lead_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / target).is_file(), target
