"""Verbs of the design that a later version brings: each says so in one sentence."""

import typer

from megalith.cli.guard import verb
from megalith.errors import UnsupportedError


def not_built(group: typer.Typer, name: str, sentence: str) -> None:
    """Add a verb that refuses with this sentence and exit code 2, whatever it is given."""

    @group.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, help=sentence)
    @verb
    def refuse(context: typer.Context) -> None:
        raise UnsupportedError(sentence)
