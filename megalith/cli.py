"""The command `megalith`: one verb, one function. It parses, calls, prints; the work is elsewhere."""

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from megalith import __version__
from megalith.artifacts import Artifact, disk_is_full
from megalith.console import console, human_bytes, human_count, human_seconds, note, show, table
from megalith.errors import MegalithError, ResourceError, UnsupportedError
from megalith.recipe import Recipe, load_recipe, shipped_recipes
from megalith.recipe.loading import dump, flatten

P = ParamSpec("P")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a compute budget to an audited language model.",
)
recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")
plan_app = typer.Typer(no_args_is_help=True, help="What it will cost, before it is spent.")
scaling_app = typer.Typer(no_args_is_help=True, help="Scaling laws from runs.")
app.add_typer(recipe_app, name="recipe")
app.add_typer(plan_app, name="plan")
app.add_typer(scaling_app, name="scaling")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a shipped recipe.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Overrides of single values.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Directory of the expedition. Default: runs/NAME.")]
Source = Annotated[
    list[Path] | None,
    typer.Option("--source", help="WARC, JSONL, Parquet or text of your own, or directories of it; may be repeated."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]


def main() -> None:
    """Entry point of the command."""
    app()


def _verb(function: Callable[P, None]) -> Callable[P, None]:
    """Turn Megalith's errors into one paragraph and exit code 2."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except MegalithError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            note("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            if not disk_is_full(error):
                raise
            _fail(str(ResourceError("the disk is full.", mend="Free some space and give the same command again.")))

    return wrapped


def _fail(message: str) -> NoReturn:
    console.print(f"megalith: {message}", markup=False, style="red", soft_wrap=True)
    raise typer.Exit(2)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))  # noqa: T201 - this is what --json is for


def _directory(output: Path | None, recipe: Recipe) -> Path:
    return output if output is not None else Path("runs") / recipe.name


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"megalith {__version__}")
        raise typer.Exit


@app.command()
@_verb
def run(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """The whole expedition: crawl, curate, tokenize, plan, train, evaluate, audit, report."""
    from megalith import expedition
    from megalith.report import summary_table

    loaded, _ = load_recipe(recipe, overrides or ())
    directory = _directory(output, loaded)
    told = expedition.run(loaded, directory, source or ())
    if as_json:
        _print_json(told)
    else:
        show(summary_table(told))
        note(f"report: {directory / 'report.html'}")
        note(f"figures: {directory / 'expedition.json'}")


def _stage_verb(stage: str, about: str) -> None:
    """Add the verb that runs one stage alone."""

    @_verb
    def verb(
        recipe: RecipeName,
        overrides: Overrides = None,
        source: Source = None,
        output: Output = None,
        as_json: Json = False,
    ) -> None:
        from megalith import expedition

        loaded, _ = load_recipe(recipe, overrides or ())
        artifact = expedition.run_stage(stage, loaded, _directory(output, loaded), source or ())
        _show_facts(artifact, as_json=as_json)

    verb.__doc__ = about
    app.command(name=stage)(verb)


_stage_verb("crawl", "Write this machine's own Python documentation as WARC.")
_stage_verb("curate", "WARC, JSONL, Parquet or text to filtered, deduplicated, decontaminated Parquet.")
_stage_verb("tokenize", "Train the byte-level BPE and write Megatron .bin/.idx shards.")
_stage_verb("train", "Train the model that the recipe or the plan says.")
_stage_verb("evaluate", "Perplexity and zero- and few-shot tasks, with standard errors.")
_stage_verb("audit", "HANS heuristics and association tests.")


def _show_facts(artifact: Artifact, *, as_json: bool) -> None:
    if as_json:
        _print_json({**artifact.facts, "artifact": str(artifact.path), "digest": artifact.digest})
        return
    rows: list[tuple[str, str]] = []
    lists: list[tuple[str, list[dict[str, Any]]]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            lists.append((prefix, value))
        else:
            rows.append((prefix, _cell(value)))

    walk("", artifact.facts)
    for title, entries in lists:
        headings = list(entries[0])
        console.print(table(title, headings, [[_cell(entry.get(name)) for name in headings] for entry in entries]))
    show(table(f"{artifact.manifest.stage}: {artifact.path}", ("fact", "value"), rows))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items()) or "–"
    if isinstance(value, list):
        return " … ".join(_cell(inner) for inner in value)
    return "–" if value is None else str(value)


@app.command()
@_verb
def report(recipe: RecipeName, overrides: Overrides = None, output: Output = None, as_json: Json = False) -> None:
    """Write the expedition log of a finished expedition again: one self-contained HTML page."""
    from megalith import expedition
    from megalith.report import write_report

    loaded, _ = load_recipe(recipe, overrides or ())
    directory = _directory(output, loaded)
    told = expedition.read_expedition(directory)
    page = write_report(directory)
    if as_json:
        _print_json({**told, "report": str(page)})
    else:
        note(f"report: {page}")


@app.command()
@_verb
def generate(
    recipe: RecipeName,
    overrides: Overrides = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Text to continue; may be repeated.")] = None,
    tokens: Annotated[int, typer.Option("--tokens", min=1, help="New tokens.")] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(min=1, help="Keep this many likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Keep this much probability.")] = 0.95,
    model: Annotated[Path | None, typer.Option(help="A model directory. Default: the expedition's.")] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Text from the expedition's model."""
    from megalith.inference import generate as generate_text
    from megalith.inference import load_model

    loaded, _ = load_recipe(recipe, overrides or ())
    lm = load_model(model or _directory(output, loaded) / "train")
    prompts = prompt or [""]
    texts = generate_text(
        lm,
        prompts,
        max_new_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=loaded.seed,
    )
    if as_json:
        _print_json({"samples": [{"prompt": p, "text": t} for p, t in zip(prompts, texts, strict=True)]})
    else:
        for p, t in zip(prompts, texts, strict=True):
            typer.echo(p + t)


@recipe_app.command("show")
@_verb
def recipe_show(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """The resolved whole, with where each value came from."""
    loaded, origins = load_recipe(recipe, overrides or ())
    values = flatten(loaded)

    def origin(key: str) -> str:
        parts = key.split(".")
        said = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next(
            (origins[name] for name in said if name in origins and not _has_inner(name, key, origins)),
            "default",
        )

    if as_json:
        _print_json({"recipe": dump(loaded), "origins": {key: origin(key) for key in values}})
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


@recipe_app.command("list")
@_verb
def recipe_list(as_json: Json = False) -> None:
    """The shipped recipes."""
    from megalith.arithmetic import parameters

    recipes = {name: load_recipe(path)[0] for name, path in shipped_recipes().items()}
    counts = {
        name: parameters(recipe.model).total if recipe.model.is_sized else None for name, recipe in recipes.items()
    }
    if as_json:
        _print_json(
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


@plan_app.command("layout")
@_verb
def plan_layout(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """The best layout for the model on the recipe's machines, and why the others lost."""
    from megalith.planning import layout

    loaded, _ = load_recipe(recipe, overrides or ())
    found = layout(loaded)
    if as_json:
        _print_json(found)
        return
    best = found["best"]
    headings = (
        "",
        "tensor",
        "pipeline",
        "data",
        "micro-batch",
        "threads",
        "precision",
        "step",
        "memory",
        "why not",
    )
    rows = [
        _layout_row("best", {**best, **found}, ""),
        *[_layout_row("", row, row["why"]) for row in found["runners_up"]],
    ]
    made = table(f"Layouts of {loaded.name}", headings, rows)
    made.columns[-1].justify = "left"
    show(made)
    low, high = found["interval"]
    note(
        f"step {human_seconds(found['step_seconds'])} (95 % {human_seconds(low)} to {human_seconds(high)}), "
        f"{found['tflops_per_gpu'] * 1000:.0f} GFLOP/s per process; {found['candidates_considered']} candidates in "
        f"{human_seconds(found['search_seconds'])}"
    )


def _layout_row(mark: str, row: dict[str, Any], why: str) -> list[str]:
    names = ("tensor", "pipeline", "data", "micro_batch_size", "threads_per_process", "precision")
    figures = [str(row.get(name, "–")) for name in names]
    return [mark, *figures, human_seconds(row["step_seconds"]), human_bytes(row["memory_bytes"]), why]


@plan_app.command("budget")
@_verb
def plan_budget(
    flops: Annotated[float | None, typer.Option("--flops", min=1.0, help="Training FLOPs.")] = None,
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Take budget.flops from this recipe.")
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Compute-optimal parameters and tokens for a FLOP budget, by each law."""
    from megalith.planning import budget

    if flops is None:
        if recipe is None:
            raise UnsupportedError(
                "a budget in FLOPs is wanted.", mend="Give --flops 1e21, or a recipe that has budget.flops."
            )
        flops = load_recipe(recipe, overrides or ())[0].budget.flops
        if flops is None:
            raise UnsupportedError(
                "this recipe has no budget.flops.",
                where=recipe,
                mend="Add budget.flops=1e21 or give --flops.",
            )
    found = budget(flops)
    if as_json:
        _print_json(found)
        return
    rows = [
        (
            law["law"],
            human_count(law["parameters"]),
            human_count(law["tokens"]),
            f"{law['tokens'] / law['parameters']:.1f}",
            "–" if law["loss"] is None else f"{law['loss']:.3f}",
            "–" if law["interval"] is None else " … ".join(human_count(bound) for bound in law["interval"]),
        )
        for law in found["laws"]
    ]
    headings = ("law", "parameters", "tokens", "tokens/parameter", "loss", "interval of parameters")
    show(table(f"Compute-optimal for {flops:.3g} FLOPs", headings, rows))


@scaling_app.command("fit")
@_verb
def scaling_fit(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.csv", help="Columns: parameters, tokens or flops, loss.")],
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^α + B/D^β (Chinchilla's approach 3) to a table of runs."""
    from megalith.scaling import fit

    found = fit(runs)
    if as_json:
        _print_json(found)
    else:
        rows = [(key, _cell(value)) for key, value in found.items() if not isinstance(value, dict | list)]
        show(table(f"Approach 3 on {runs}", ("figure", "value"), rows))


def _not_yet(group: typer.Typer, name: str, sentence: str) -> None:
    """Add a verb of the design that a later version brings: it says so in one sentence, and exits with code 2."""

    @group.command(name, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, help=sentence)
    @_verb
    def verb(context: typer.Context) -> None:
        raise UnsupportedError(sentence)


_not_yet(plan_app, "timeline", "`plan timeline` (one training step drawn) is not built yet.")
_not_yet(plan_app, "dryrun", "`plan dryrun` (one rank of the real job on fake tensors) is not built yet.")
_not_yet(plan_app, "validate", "`plan validate` (predictions against a table of measurements) is not built yet.")
_not_yet(plan_app, "calibrate", "`plan calibrate` is not built yet; `plan layout` measures this machine each time.")
_not_yet(
    scaling_app,
    "study",
    "`scaling study` (a sweep of small runs) is not built yet; `scaling fit` reads a table of runs.",
)
_not_yet(
    app,
    "serve",
    "`serve` (an OpenAI-compatible endpoint) is not built yet; `megalith generate` writes text from a model.",
)
_not_yet(
    app,
    "export",
    "`export` (Hugging Face checkpoints) is not built yet; `train/model` holds safetensors and tokenizer.json.",
)
_not_yet(app, "import", "`import` (Hugging Face checkpoints, Megatron shards) is not built yet.")
