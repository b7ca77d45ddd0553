"""The verb `import`: a model of another program as a model artifact."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.options import Fresh, Json
from megalith.cli.tables import counted, print_json
from megalith.console import note

Source = Annotated[Path, typer.Argument(metavar="PATH", help="A Hugging Face directory, or a .gguf file.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The artifact. Default: imported/NAME.")]


@verb
def import_model(path: Source, output: Output = None, fresh: Fresh = False, as_json: Json = False) -> None:
    """Take a Hugging Face directory or a GGUF file as a model: to generate, evaluate, audit, serve and train."""
    from megalith import verbs

    made = verbs.import_model(path, output=output, fresh=fresh)
    facts = made.facts
    if as_json:
        told = {"path": str(made.path), "digest": made.digest, "parameters": facts["parameters"]}
        files = [one.path for one in made.manifest.outputs]
        print_json({**told, "family": facts["family"], "licence": facts["licence"], "files": files})
        return
    how = "stands already" if made.reused else "imported"
    note(
        f"{facts['family']}, {counted(facts['parameters'], 'parameter')}, licence {facts['licence'] or 'not stated'}: "
        f"{how} at {made.path}"
    )
