"""From a recipe to the question that is searched: what is asked for, what is open, and what is not."""

from collections.abc import Collection, Mapping
from typing import Any

from megalith.arithmetic import flops_per_token
from megalith.batches import tokens_for
from megalith.errors import UnsupportedError
from megalith.job import fp8_on, precision_on
from megalith.planning.budget import in_flops
from megalith.planning.search.space import KNOBS, SECTIONS, Question, trained_only
from megalith.recipe import Recipe
from megalith.topology import Cluster, describe


def kept(recipe: Recipe, origins: Mapping[str, str], *, written: bool) -> set[str]:
    """The keys that are not to be searched: what overrides say, and with `written` what the recipe's file says too."""
    found = set()
    for knob in (*KNOBS, "schedule_file"):
        section = SECTIONS.get(knob, "parallel")
        if knob in getattr(recipe, section).model_fields_set:  # what an override of a whole section gives, too
            said = origins.get(f"{section}.{knob}", origins.get(section, ""))
            if written or said.startswith("override"):
                found.add(f"{section}.{knob}")
    return found


def question_of(recipe: Recipe, cluster: Cluster, keep: Collection[str], *, to_train: bool = False) -> Question:
    """The recipe's model and batch, with those of its choices fixed that `keep` names.

    With `to_train` the answer is a layout that training takes.
    """
    if "parallel.schedule_file" in keep and recipe.parallel.schedule_file is not None:
        raise UnsupportedError(
            "a schedule of your own is for one layout, and cannot be searched with.",
            where="parallel.schedule_file",
            mend="Leave it out, and give a parallel.schedule or none.",
        )
    fixed: dict[str, Any] = trained_only(recipe) if to_train else {}
    for knob in KNOBS:
        value = getattr(getattr(recipe, SECTIONS[knob]), knob)
        if f"{SECTIONS[knob]}.{knob}" in keep and value is not None:
            fixed[knob] = value
    precision, train = precision_on(cluster, recipe), recipe.train
    parallel = recipe.parallel
    return Question(
        recipe.model, cluster, train.global_batch_size, precision, bool(train.compile), fixed, parallel.context_method,
        train.optimizer_state, parallel.offload_optimizer, fp8_on(cluster, recipe), parallel.tensor_overlap,
        train.cuda_graphs,
    )  # fmt: skip


def tokens_of(recipe: Recipe) -> int:
    if recipe.train.tokens is not None:
        return recipe.train.tokens
    flops = in_flops(recipe).budget.flops
    assert flops is not None  # the recipe's own check
    return tokens_for(recipe, flops / flops_per_token(recipe.model))


def resized(recipe: Recipe, nodes: int) -> Cluster:
    return describe(recipe.cluster.model_copy(update={"nodes": nodes}))
