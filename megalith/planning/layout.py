"""`megalith plan layout`: the best layout, on this machine by measuring it, on a cluster by the cost model."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from megalith.errors import UnsupportedError
from megalith.planning.search import Objective, cluster_layout
from megalith.recipe import Recipe
from megalith.topology import LOCAL


def layout(
    recipe: Recipe,
    *,
    keep: Collection[str] = (),
    objective: Objective = "time",
    deadline_days: float | None = None,
    price: float | None = None,
    constants: Path | None = None,
) -> dict[str, Any]:
    """The best layout of the recipe's model on its machines, and why the others lost; the keys are those of `--json`.

    A model without a shape gets the one that the plan would choose. The options are for clusters, and explained at
    `search.cluster_layout`. Raises RecipeError, UnsupportedError or ResourceError where no layout will do.
    """
    if recipe.cluster.name != LOCAL:
        return cluster_layout(
            recipe, keep=keep, objective=objective, deadline_days=deadline_days, price=price, constants=constants
        )
    if objective != "time" or deadline_days is not None or price is not None or constants is not None:
        raise UnsupportedError(
            "an objective, a deadline, a price and constants are for clusters: this machine is measured as it is.",
            where="cluster.name",
            mend="Set cluster.name=selene or another known cluster.",
        )
    from megalith.planning.measuring.verbs import (
        measured_layout,  # imports torch, which a cluster's search does without
    )

    return measured_layout(recipe)
