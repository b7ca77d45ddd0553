"""The verb `score`: anyone's requests to a file of log-probabilities."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from megalith.cli.generate import Precision
from megalith.cli.guard import resuming_verb
from megalith.cli.options import Json
from megalith.cli.tables import counted, print_json
from megalith.console import note

Directory = Annotated[Path, typer.Argument(metavar="MODEL", help="A model: a directory, or an address.")]
Requests = Annotated[
    Path, typer.Argument(metavar="REQUESTS.jsonl", help="JSON lines with id, context and choices [{continuation}].")
]
Scores = Annotated[Path, typer.Option("--output", "-o", help="The file of scores, a line for each request.")]
Prefix = Annotated[
    Literal["none", "bos", "eot", "auto"],
    typer.Option(help="The token in front of every context. auto: the model's own convention."),
]
Boundary = Annotated[
    Literal["lm_eval", "safe"], typer.Option(help="Where the context ends; safe: never within a token.")
]
BatchTokens = Annotated[int, typer.Option(min=1, max=2**24, help="Tokens of a forward pass.")]
Invariant = Annotated[bool, typer.Option("--batch-invariant", help="The same bits whatever is scored together.")]
TooLong = Annotated[
    Literal["truncate", "error"], typer.Option(help="Cut a context from the left to fit the model, or refuse it.")
]


@resuming_verb
def score(
    model: Directory,
    requests: Requests,
    output: Scores,
    prefix: Prefix = "auto",
    boundary: Boundary = "lm_eval",
    precision: Precision = "fp32",
    batch_tokens: BatchTokens = 4096,
    batch_invariant: Invariant = False,
    too_long: TooLong = "truncate",
    as_json: Json = False,
) -> None:
    """Log-probabilities of continuations, for anyone's requests in a file."""
    from megalith import verbs

    made = verbs.score(
        model,
        requests,
        output,
        prefix=prefix,
        boundary=boundary,
        precision=precision,
        batch_tokens=batch_tokens,
        batch_invariant=batch_invariant,
        too_long=too_long,
    )
    if as_json:
        print_json({"output": str(output), **asdict(made)})
        return
    scored = f"{counted(made.requests, 'request')}, {counted(made.choices, 'choice')}, {counted(made.tokens, 'token')}"
    note(f"{scored} scored: {output}")
    if made.resumed:
        note(f"{counted(made.resumed, 'request')} had been scored before the last run ended")
    if made.truncated:
        note(f"{counted(made.truncated, 'choice')}: the context was cut from the left to fit the model")
    if made.straddled:
        note(f"{counted(made.straddled, 'choice')}: the scored tokens do not begin where the continuation does")
