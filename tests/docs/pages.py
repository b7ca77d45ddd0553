"""The pages' commands: what a reader would paste into a terminal, and what shows the form of a verb."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from megalith.cli import app
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@dataclass(frozen=True)
class Command:
    """One command line of a page."""

    page: Path
    line: str
    shown: str
    """The output printed under it on the page."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.line[:60]}"


def walk(command: Any, name: str = "") -> dict[str, Any]:
    """Every verb of the command line by its words."""
    if not hasattr(command, "commands"):
        return {name: command}
    found = {}
    for word, inner in command.commands.items():
        found |= walk(inner, f"{name} {word}".strip())
    return found


VERBS = walk(typer.main.get_command(app))


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[Command]:
    """The lines of a page that begin with a prompt, each with the output under it; a backslash joins two lines."""
    for _, text in blocks(page):
        joined = re.sub(r"\\\n\s*", "", text)
        for line, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", joined, re.MULTILINE):
            yield Command(page, line.strip(), shown.strip())


def forms(page: Path) -> Iterator[str]:
    """The lines of a page that show the form of a verb, such as `megalith audit RECIPE [--output DIR]`."""
    for _, text in blocks(page):
        yield from re.findall(r"^megalith .*\[.*$", text, re.MULTILINE)


def verb_of(words: list[str]) -> tuple[str, list[str]]:
    """The verb that words after `megalith` name, and its arguments."""
    two = " ".join(words[:2])
    name = words[0] if words[0] in VERBS and two not in VERBS else two
    return name, words[len(name.split()) :]
