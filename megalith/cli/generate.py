"""The verb `generate`: text from a trained model, shown as it comes."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Json, Output, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import visible, write_text

TopK = Annotated[int | None, typer.Option(min=1, help="Keep this many most likely tokens.")]
TopP = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Keep this much probability.")]
MinP = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Keep tokens of this share of the likeliest one's.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Above 1: what the text has becomes less likely.")]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option(help="Of weights and products.")]


@verb
def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Text to continue; may be repeated.")] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts, one a line, or JSON lines (.jsonl) with a prompt.")
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, max=1_000_000, help="New tokens.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the most likely token.")] = 0.8,
    top_k: TopK = None,
    top_p: TopP = 0.95,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Default: the recipe's.")] = None,
    logprobs: Annotated[
        int | None, typer.Option(min=0, help="With --json: log-probabilities, and this many alternatives.")
    ] = None,
    precision: Precision = "fp32",
    model: Annotated[Path | None, typer.Option(help="A model directory. Default: the expedition's.")] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Text from the expedition's model."""
    from megalith import verbs

    shown = prompt or [""]
    streams = sys.stdout.isatty() and not as_json and len(shown) == 1 and prompts is None
    if streams:
        show(shown[0])
    made = verbs.generate(
        recipe,
        prompt or "",
        overrides=overrides or (),
        prompts=prompts,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or (),
        seed=seed,
        logprobs=logprobs,
        precision=precision,
        model=model,
        output=output,
        advance=(lambda place, text: show(text)) if streams else None,
    )
    if as_json:
        print_json({"samples": [asdict(one) for one in made]})
    elif streams:
        write_text("")
    else:
        for one in made:
            write_text(one.prompt + one.text)


def show(text: str) -> None:
    """Write a piece of a model's text on the terminal, with its control characters visible."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
