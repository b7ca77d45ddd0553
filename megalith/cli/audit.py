"""The verb `audit`: the stage of that name."""

from megalith.cli.guard import resuming_verb
from megalith.cli.options import Fresh, Json, Model, Output, Overrides, RecipeName, Source
from megalith.cli.tables import show_facts


@resuming_verb
def audit(
    recipe: RecipeName,
    overrides: Overrides = None,
    source: Source = None,
    model: Model = None,
    output: Output = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Shallow heuristics, sensitivity to the prompt, and social bias."""
    from megalith import verbs

    made = verbs.audit_model(
        recipe, overrides=overrides or (), source=source or (), model=model, output=output, fresh=fresh
    )
    show_facts(made, as_json=as_json)
