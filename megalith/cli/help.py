"""The command as a whole: the page of `megalith --help`, verbs in the order of the walk, and what is said of misuse."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from typer.core import TyperGroup

from megalith.recipe.yaml_values import shorten

SECTIONS: dict[str, Sequence[str]] = {
    "The walk": ("run", "crawl", "curate", "tokenize", "blend", "blend search", "train", "evaluate", "audit", "report"),
    "Before it": ("recipe", "plan", "scaling"),
    "After it": (
        "compare",
        "score",
        "average",
        "generate",
        "chat",
        "serve",
        "import",
        "export",
        "card",
        "verify",
        "push",
    ),
}

LONGEST_COMPLAINT = 500
"""Characters of a complaint about arguments, which repeats them."""


@runtime_checkable
class _Complaint(Protocol):
    """An error of the command line's own: no other has a message of this name, and typer exports no class of them."""

    message: str


class Sections(TyperGroup):
    """A group whose verbs are listed under headings, each with its whole sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The verbs in the order of the page."""
        known = [name for names in SECTIONS.values() for name in names if name in self.commands]
        return [*known, *(name for name in self.commands if name not in known)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each section, and what stands in none of them."""
        sentences = {name: _first_paragraph(self.commands[name]) for name in self.list_commands(ctx)}
        placed = {name for names in SECTIONS.values() for name in names}
        others = [name for name in sentences if name not in placed]
        for heading, names in {**SECTIONS, "Commands": others}.items():
            rows = [(name, sentences[name]) for name in names if name in sentences]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the first word names, or the first two: `blend RECIPE` and `blend search RECIPE`."""
        two = " ".join(args[:2])
        if len(args) > 1 and two in self.commands:
            return two, self.commands[two], args[2:]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; an argument of any length is told in a sentence that can be read."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, _Complaint):
                error.message = shorten(error.message, LONGEST_COMPLAINT)
            raise


def _first_paragraph(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())
