"""The verb `crawl`: the stage of that name."""

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Output, Overrides, RecipeName
from megalith.cli.tables import show_facts


@resuming_verb
def crawl(
    recipe: RecipeName,
    overrides: Overrides = None,
    output: Output = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Write this machine's own Python documentation as WARC."""
    from megalith import verbs

    made = verbs.crawl(recipe, overrides=overrides or (), output=output, fresh=fresh)
    show_facts(made, as_json=as_json)
