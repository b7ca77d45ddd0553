"""The verb `report`: the page of a finished expedition, written again."""

from megalith.cli.guard import verb
from megalith.cli.options import Json, Output, Overrides, RecipeName
from megalith.cli.tables import print_json
from megalith.console import note


@verb
def report(recipe: RecipeName, overrides: Overrides = None, output: Output = None, as_json: Json = False) -> None:
    """Write the expedition log of a finished expedition again: one self-contained HTML page."""
    from megalith import verbs

    made = verbs.read_expedition(recipe, overrides=overrides or (), output=output)
    page = verbs.write_report(made.directory)
    if as_json:
        print_json({**made.figures, "report": str(page)})
    else:
        note(f"report: {page}")
