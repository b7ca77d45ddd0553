"""The verbs of the walk: `run`, each stage alone, `report`, `generate`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from megalith.artifacts import Artifact
from megalith.cli.shared import (
    Fresh,
    Json,
    Output,
    Overrides,
    RecipeName,
    Source,
    cell,
    expedition_directory,
    not_yet,
    print_json,
    resuming_verb,
    verb,
)
from megalith.console import note, show, table, write_text
from megalith.recipe import load_recipe

app = typer.Typer()
Yes = Annotated[bool, typer.Option("--yes", help="Train also where it takes longer than a day on this machine.")]


@app.command()
@resuming_verb
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    output: Output = None,
    fresh: Fresh = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """The whole expedition: crawl, curate, tokenize, plan, train, evaluate, audit, report."""
    from megalith import expedition
    from megalith.report import summary_table

    loaded, _ = load_recipe(recipe, overrides or ())
    directory = expedition_directory(output, loaded)
    told = expedition.run(loaded, directory, source or (), fresh=fresh, yes=yes)
    if as_json:
        print_json(told)
    else:
        show(summary_table(told))
        note(f"report: {directory / 'report.html'}")
        note(f"figures: {directory / 'expedition.json'}")


def _stage_verb(stage: str, about: str) -> None:
    """Add the verb that runs one stage alone."""

    @resuming_verb
    def run_stage(
        recipe: RecipeName,
        overrides: Overrides = None,
        source: Source = None,
        output: Output = None,
        fresh: Fresh = False,
        as_json: Json = False,
    ) -> None:
        from megalith import expedition

        loaded, _ = load_recipe(recipe, overrides or ())
        directory = expedition_directory(output, loaded)
        artifact = expedition.run_stage(stage, loaded, directory, source or (), fresh=fresh)
        show_facts(artifact, as_json=as_json)

    run_stage.__doc__ = about
    app.command(name=stage)(run_stage)


_stage_verb("crawl", "Write this machine's own Python documentation as WARC.")
_stage_verb("tokenize", "Train the byte-level BPE and write Megatron .bin/.idx shards.")


@app.command()
@resuming_verb
def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    output: Output = None,
    fresh: Fresh = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Train the model that the recipe or the plan says."""
    from megalith import expedition

    loaded, _ = load_recipe(recipe, overrides or ())
    directory = expedition_directory(output, loaded)
    artifact = expedition.run_stage("train", loaded, directory, source or (), fresh=fresh, yes=yes)
    show_facts(artifact, as_json=as_json)


_stage_verb("evaluate", "Perplexity and zero- and few-shot tasks, with standard errors.")
_stage_verb("audit", "HANS heuristics and association tests.")


def show_facts(artifact: Artifact, *, as_json: bool) -> None:
    """Print what a stage found: as one object, or as tables."""
    if os.environ.get("RANK", "0") != "0":  # one of several under torchrun speaks
        return
    if as_json:
        print_json({**artifact.facts, "artifact": str(artifact.path), "digest": artifact.digest})
        return
    rows: list[tuple[str, str]] = []
    lists: list[tuple[str, list[dict[str, Any]]]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and len(value) > 1 and all(map(_is_row, value.values())):
            lists.append((prefix, [{"name": key, **inner} for key, inner in value.items()]))
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list | tuple) and value and all(isinstance(entry, dict) for entry in value):
            lists.append((prefix, list(value)))
        else:
            rows.append((prefix, cell(value)))

    walk("", artifact.facts)
    for title, entries in lists:
        headings = list(dict.fromkeys(name for entry in entries for name in entry))
        show(table(title, headings, [[cell(entry.get(name)) for name in headings] for entry in entries]))
    show(table(f"{artifact.manifest.stage}: {artifact.path}", ("fact", "value"), rows))


def _is_row(value: Any) -> bool:
    """Whether it is one line of a table: names with a single value each."""
    return isinstance(value, dict) and not any(isinstance(inner, dict | list | tuple) for inner in value.values())


@app.command()
@verb
def report(recipe: RecipeName, overrides: Overrides = None, output: Output = None, as_json: Json = False) -> None:
    """Write the expedition log of a finished expedition again: one self-contained HTML page."""
    from megalith import expedition
    from megalith.report import write_report

    loaded, _ = load_recipe(recipe, overrides or ())
    directory = expedition_directory(output, loaded)
    told = expedition.read_expedition(directory)
    page = write_report(directory)
    if as_json:
        print_json({**told, "report": str(page)})
    else:
        note(f"report: {page}")


@app.command()
@verb
def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Text to continue; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, max=1_000_000, help="New tokens.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Keep this many likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Keep this much probability.")] = 0.95,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the draws. Default: the recipe's.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model directory. Default: the expedition's.")] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Text from the expedition's model."""
    from megalith.inference import generate as generate_text
    from megalith.inference import load_model

    loaded, _ = load_recipe(recipe, overrides or ())
    lm = load_model(model or expedition_directory(output, loaded) / "train")
    prompts = prompt or [""]
    texts = generate_text(
        lm,
        prompts,
        max_new_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=loaded.seed if seed is None else seed,
    )
    if as_json:
        print_json({"samples": [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]})
    else:
        for p, t in zip(prompts, texts, strict=True):
            write_text(p + t)


not_yet(
    app,
    "serve",
    "`serve` (an OpenAI-compatible endpoint) is not built yet; `megalith generate` writes text from a model.",
)
not_yet(
    app,
    "export",
    "`export` (Hugging Face checkpoints) is not built yet; `train/model` holds safetensors and tokenizer.json.",
)
not_yet(app, "import", "`import` (Hugging Face checkpoints, Megatron shards) is not built yet.")
