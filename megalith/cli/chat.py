"""The verb `chat`: a conversation at the terminal, or with a program that writes a line and reads an answer."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.generate import MinP, Precision, RepetitionPenalty, TopK, TopP, show
from megalith.cli.guard import verb
from megalith.console import note
from megalith.errors import InputError


@verb
def chat(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory with a chat template.")],
    system: Annotated[str | None, typer.Option(help="What the model is told before the conversation.")] = None,
    tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most this many in an answer.")] = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.7,
    top_k: TopK = None,
    top_p: TopP = 0.95,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = 1.0,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: another one each time.")] = None,
    precision: Precision = "fp32",
) -> None:
    """Converse with a model that was taught to. Ctrl-C stops an answer; /quit leaves."""
    from megalith import verbs

    talk = verbs.chat(
        model,
        system=system,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        precision=precision,
    )
    forgotten = 0
    for line in _lines():
        pieces = talk.answer(line)
        try:
            for piece in pieces:
                show(piece)
        except KeyboardInterrupt:
            pieces.close()
        except InputError as error:
            note(str(error))
            continue
        show("\n")
        if talk.forgotten > forgotten:
            forgotten = talk.forgotten
            note(f"the first {forgotten} messages no longer fit in the model's context, and are not read")


def _lines() -> Iterator[str]:
    """Yield the user's lines, until the end of the input or /quit."""
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    while True:
        if asks:
            show("> ")
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            note("type /quit to leave")
            continue
        if not line or line.strip() == "/quit":
            return
        if line.strip():
            yield line.rstrip("\r\n")
