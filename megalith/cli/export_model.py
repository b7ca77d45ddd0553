"""The verb `export`: a model of ours for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Fresh, Json
from megalith.cli.tables import counted, print_json
from megalith.console import note, show, table

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="A train or import artifact, or checkpoints/step-XXXXXXXX of one.")
]
To = Annotated[Literal["hf", "gguf"], typer.Option("--to", help="A Hugging Face directory, or GGUF files.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Weights as F32, F16, BF16, or for GGUF Q8_0; may be repeated."),
]
Text = Annotated[
    Path | None, typer.Option("--text", help="Text on which GGUF's loss is measured. Default: held-out documents.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Default: exported/NAME-FORMAT.")]


@verb
def export_model(
    checkpoint: Checkpoint,
    to: To = "hf",
    types: Types = None,
    text: Text = None,
    output: Output = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Write a model for transformers or llama.cpp, with tokenizer and model card."""
    from megalith import verbs

    made = verbs.export_model(checkpoint, to, types=types or (), text=text, output=output, fresh=fresh)
    facts = made.facts
    if as_json:
        told = {"path": str(made.path), "digest": made.digest, "parameters": facts["parameters"]}
        files = [one.path for one in made.manifest.outputs]
        print_json({**told, "family": facts["family"], "loss": facts.get("loss"), "files": files})
        return
    how = "stands already" if made.reused else "written"
    note(f"{facts['family']}, {counted(facts['parameters'], 'parameter')}: {how} at {made.path}")
    if facts.get("loss"):
        bits = facts["loss"]["bits_per_byte"]
        rows = [(kind, f"{value:.5f}", f"{value - bits['original']:+.5f}") for kind, value in bits.items()]
        show(table("Loss", ("weights", "bits per byte", "more than the original"), rows))
