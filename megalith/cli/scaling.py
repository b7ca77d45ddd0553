"""The verbs `scaling fit` and `scaling study`."""

from pathlib import Path
from typing import Annotated

import typer

from megalith.cli.guard import verb
from megalith.cli.help import Sections
from megalith.cli.not_built import not_built
from megalith.cli.options import Json
from megalith.cli.tables import cell, print_json
from megalith.console import show, table

app = typer.Typer(cls=Sections, no_args_is_help=True, help="Scaling laws from runs.")


@app.command("fit")
@verb
def scaling_fit(
    runs: Annotated[Path, typer.Argument(metavar="RUNS.csv", help="Columns: parameters, tokens or flops, loss.")],
    as_json: Json = False,
) -> None:
    """Fit L = E + A/N^α + B/D^β (Chinchilla's approach 3) to a table of runs."""
    from megalith import verbs

    found = verbs.scaling_fit(runs)
    if as_json:
        print_json(found)
    else:
        rows = [(key, cell(value)) for key, value in found.items() if not isinstance(value, dict | list)]
        show(table(f"Approach 3 on {runs}", ("figure", "value"), rows))


not_built(
    app,
    "study",
    "`scaling study` (a sweep of small runs) is not built yet; `scaling fit` reads a table of runs.",
)
