"""The verb `run`: the whole expedition."""

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Output, Overrides, RecipeName, Source, Yes
from megalith.cli.tables import print_json
from megalith.console import note, show


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
    from megalith import verbs

    made = verbs.run(recipe, overrides=overrides or (), source=source or (), output=output, fresh=fresh, yes=yes)
    if as_json:
        print_json(made.figures)
        return
    from megalith.report import summary_table

    show(summary_table(made.figures))
    note(f"report: {made.report}")
    note(f"figures: {made.directory / 'expedition.json'}")
