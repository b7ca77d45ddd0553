"""The plan stage: the recipe with every open choice made, and what the run will cost.

Shape and tokens come from the budget by a scaling law (`shapes`), the layout from measuring this machine (`layouts`).
The decisions are the artifact's one file, `recipe.json`; figures and times are its facts. A plan that stands is kept,
also where the machine has changed: remove it to plan again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from megalith.arithmetic import flops_per_token, step_flops
from megalith.artifacts import Artifact, Workspace, produce
from megalith.batches import steps_for, tokens_for
from megalith.console import human_count, progress
from megalith.errors import RecipeError
from megalith.laws import law_named
from megalith.machine import available_memory_bytes, cpu_name, total_memory_bytes, usable_cores
from megalith.planning.budget import laws_at
from megalith.planning.candidates import Candidate
from megalith.planning.figures import candidate_rows, gemm_rates, layout_figures, refuse_clusters
from megalith.planning.layouts import check_layout, search_layouts
from megalith.planning.memory import refuse_what_cannot_fit
from megalith.planning.shapes import Shape, choose_shape, counted_parameters, shape_of
from megalith.recipe import Recipe

VERSION = 1
MOST_EPOCHS = 4  # repeated text is about as good as new for four epochs (Muennighoff et al., 2305.16264)
_TRAIN_KEYS = {
    "tokens", "global_batch_size", "micro_batch_size", "batch_ramp", "precision", "optimizer", "validation_interval",
    "validation_sequences",
}  # fmt: skip


def plan(recipe: Recipe, path: Path, tokens: Artifact | None) -> Artifact:
    """Decide what the recipe leaves open, and predict what the run takes on this machine.

    `tokens` is the tokenize artifact, if it is there already: then the plan knows how often the text is repeated.
    Raises RecipeError, ResourceError or UnsupportedError where there is no such run.
    """
    check(recipe)
    available = tokens.facts["tokens"] if tokens else None
    return produce(
        path,
        stage="plan",
        settings={
            "version": VERSION,
            **{section: getattr(recipe, section).model_dump(mode="json")
               for section in ("budget", "cluster", "model", "parallel")},
            "train": recipe.train.model_dump(mode="json", include=_TRAIN_KEYS),
        },
        inputs={"tokens": tokens.digest} if tokens else {},
        seed=recipe.seed,
        build=lambda workspace: _build(recipe, available, workspace),
    )  # fmt: skip


def check(recipe: Recipe) -> None:
    """Raise the error of a plan that cannot be made, as far as it shows without measuring."""
    refuse_clusters(recipe)
    if recipe.model.is_sized:
        refuse_what_cannot_fit(recipe.model, total_memory_bytes())
    check_layout(recipe)


def _build(recipe: Recipe, available: Mapping[str, int] | None, workspace: Workspace) -> dict[str, Any]:
    with progress() as display:
        task = display.add_task("sizing the model", total=3)
        shape, neighbours = _shape(recipe)
        sized = recipe.model_copy(update={"model": shape.model})
        refuse_what_cannot_fit(shape.model, total_memory_bytes())
        display.update(task, description="measuring this machine", advance=1)
        rates = gemm_rates()
        display.update(task, description="trying layouts", advance=1)
        search = search_layouts(sized, rates)
        display.advance(task)
    best = search.best
    workspace.write_json("recipe.json", _decided(sized, shape, best).model_dump(mode="json"))
    steps = steps_for(sized, shape.tokens)
    flops = flops_per_token(shape.model) * shape.tokens
    epochs = shape.tokens / available["train"] if available and available["train"] else None
    return {
        "parameters": shape.parameters,
        "non_embedding_parameters": shape.non_embedding_parameters,
        "tokens": shape.tokens,
        "steps": steps,
        "flops": flops,
        "flops_per_step": step_flops(shape.model, recipe.train.global_batch_size),
        "step_seconds": best.step_seconds,
        "interval": list(best.interval),
        "seconds": _run_seconds(sized, best.step_seconds, steps, available),
        "memory_bytes": best.memory_bytes,
        "memory": best.memory,
        "predicted_loss": shape.predicted_loss,
        "law": recipe.budget.law,
        "laws": laws_at(recipe.budget.flops or flops),
        "epochs": epochs,
        "layout": layout_figures(best),
        "candidates": candidate_rows(search),
        "candidates_considered": search.considered,
        "search_seconds": search.seconds,
        "shapes": [_shape_row(neighbour, neighbour is shape) for neighbour in neighbours],
        "machine": {
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "memory_bytes": total_memory_bytes(),
            "gemm_flops_per_second": rates,
            "peak_flops_per_second": None if torch.cuda.is_available() else rates.get(best.layout.precision),
        },
        "warnings": _warnings(recipe, shape, best, epochs),
    }


def _shape(recipe: Recipe) -> tuple[Shape, list[Shape]]:
    """The shape and tokens that the recipe gives, or those that the budget buys."""
    model = recipe.model
    if not model.is_sized:
        return choose_shape(recipe)
    tokens = recipe.train.tokens
    if tokens is None:
        assert recipe.budget.flops is not None  # the recipe's own check
        tokens = tokens_for(recipe, recipe.budget.flops / flops_per_token(model))
        if not tokens:
            raise RecipeError(
                f"budget.flops {recipe.budget.flops:.3g} does not pay for a single step of this model, which takes "
                f"{step_flops(model, recipe.train.global_batch_size):.3g}.",
                mend="Raise budget.flops, or lower train.global_batch_size or model.sequence_length.",
            )
    shape = shape_of(recipe, model, tokens)
    return shape, [shape]


def _decided(recipe: Recipe, shape: Shape, best: Candidate) -> Recipe:
    """The recipe with nothing left open; checked anew."""
    layout = best.layout
    values = recipe.model_dump(mode="json")
    values["train"].update(tokens=shape.tokens, micro_batch_size=layout.micro_batch_size, precision=layout.precision)
    values["parallel"].update(tensor=layout.tensor, pipeline=layout.pipeline, data=layout.data)
    return Recipe.model_validate(values)


def _run_seconds(recipe: Recipe, step_seconds: float, steps: int, available: Mapping[str, int] | None) -> float:
    """Training, and its validations: a sequence that is only scored takes a third of one that is learned from."""
    train = recipe.train
    scored = train.validation_sequences * (steps // train.validation_interval)
    if available:
        scored += available["validation"] // recipe.model.sequence_length
    return step_seconds * (steps + scored / train.global_batch_size / 3)


def _warnings(recipe: Recipe, shape: Shape, best: Candidate, epochs: float | None) -> list[str]:
    """What the reader of the plan should know before believing it."""
    law = law_named(recipe.budget.law)
    said = []
    counted = counted_parameters(recipe, shape)
    if counted < law.smallest_parameters:
        said.append(
            f"{law.name} was fitted on models of {human_count(law.smallest_parameters)} parameters and more; at "
            f"{human_count(counted)} it is extrapolated, and its loss is no forecast."
        )
    if epochs is not None and epochs > MOST_EPOCHS:
        said.append(
            f"the run reads its training tokens {epochs:.1f} times; beyond {MOST_EPOCHS} epochs repeated text teaches "
            "less and less. More text would help."
        )
    if best.memory_bytes > available_memory_bytes():
        said.append("other programs hold so much of this machine's memory now that the run would not fit beside them.")
    return said


def _shape_row(shape: Shape, chosen: bool) -> dict[str, Any]:
    return {
        "num_layers": shape.model.num_layers,
        "hidden_size": shape.model.hidden_size,
        "num_heads": shape.model.num_heads,
        "parameters": shape.parameters,
        "non_embedding_parameters": shape.non_embedding_parameters,
        "tokens": shape.tokens,
        "predicted_loss": shape.predicted_loss,
        "chosen": chosen,
    }
