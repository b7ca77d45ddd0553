"""The plan stage: the recipe with every open choice made, and the predicted cost of the run.

Shape and tokens come from the budget by a scaling law (`shapes`), the layout from measuring this machine
(`measuring.local_layouts`), or for a cluster that this machine is not from the search (`cluster_plan`). A budget in
hours becomes FLOPs by the rate that the measured step reaches. The decisions are the artifact's one file,
`recipe.json`; figures and times are its facts. A plan that stands is kept, also where the machine has changed: remove
it to plan again.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from megalith.arithmetic import flops_per_token, step_flops
from megalith.artifacts import MANIFEST, Artifact, Workspace, produce, read_manifest
from megalith.batches import steps_for
from megalith.console import human_count, human_seconds, note, steps_shown
from megalith.errors import ResourceError
from megalith.laws import law_named
from megalith.machine import accelerators, available_memory_bytes, cpu_name, total_memory_bytes, usable_cores
from megalith.planning.budget import credible_loss, laws_at
from megalith.planning.cluster_plan import is_elsewhere, predicted
from megalith.planning.decision import Decision, size, spend_hours
from megalith.planning.measuring.accelerator_layouts import (
    memory_here,
    node_here,
    peak_of,
    precision_here,
    worlds,
)
from megalith.planning.measuring.layout_trials import Trial
from megalith.planning.measuring.local_layouts import check_layout, machine_of, search_layouts
from megalith.planning.measuring.rates import Rates, measure_rates
from megalith.planning.measuring.training_memory import refuse_what_cannot_fit
from megalith.planning.measuring.workers import start_workers
from megalith.planning.shapes import Shape, counted_parameters
from megalith.recipe import Recipe
from megalith.recipe.explain import explain
from megalith.secrets import masked
from megalith.topology import Cluster

VERSION = 2
LONGEST_UNASKED_SECONDS = 24 * 3600  # of training, that are begun without a word
_SLOWEST_FLOPS_PER_SECOND = 1e10  # of a machine's products: what takes less than a day at that is not looked into
MOST_EPOCHS = 4  # repeated text is about as good as new for four epochs (Muennighoff et al., 2305.16264)
_TRAIN_KEYS = {
    "tokens", "global_batch_size", "micro_batch_size", "batch_ramp", "precision", "optimizer", "validation_interval",
    "validation_sequences",
}  # fmt: skip


def plan(recipe: Recipe, path: Path, tokens: Artifact | None) -> Artifact:
    """Decide what the recipe leaves open, and predict what the run takes on the recipe's machines.

    `tokens` is the tokenize artifact, if it is there already: then the plan knows how often the text is repeated.
    Raises RecipeError, ResourceError or UnsupportedError where there is no such run.
    """
    check(recipe)
    if is_elsewhere(recipe) or _is_of_cluster(path, recipe.cluster.name):
        tokens = None  # made before there are any, and taken up as it is by all who train by it
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


def _is_of_cluster(path: Path, name: str) -> bool:
    """Whether the plan that stands at `path` was made for the cluster from elsewhere."""
    machine = read_manifest(path).facts.get("machine") if (path / MANIFEST).is_file() else None
    return isinstance(machine, dict) and machine.get("cluster") == name


def check(recipe: Recipe, *, yes: bool = False) -> None:
    """Raise the error of a plan that cannot be made, as far as it shows before the plan stage.

    Without `yes`, that is also a training that even at the full rate of a product takes longer than a day, unless the
    recipe says how many hours it may take.
    """
    if is_elsewhere(recipe):
        return  # nothing is begun here, and its plan takes seconds
    if recipe.model.is_sized:
        refuse_what_cannot_fit(recipe.model, memory_here(recipe))
    check_layout(recipe)
    flops = _asked_flops(recipe)
    unclear = flops > LONGEST_UNASKED_SECONDS * _SLOWEST_FLOPS_PER_SECOND
    if unclear and not yes and recipe.budget.hours is None:
        node = node_here(recipe)
        if node is None:
            rate = max(measure_rates(usable_cores()).flops_per_second.values())
        elif node.facts is not None:
            rate = max(worlds(recipe, node)) * node.facts.peak(precision_here(recipe))
        else:
            return  # the plan's own step will say
        refuse_unasked_length(recipe, flops / rate, bound="at least ")


def refuse_unasked_length(recipe: Recipe, seconds: float, *, bound: str = "about ") -> None:
    """Raise ResourceError for a training that takes longer than a day, unless the recipe gives it hours."""
    if seconds <= LONGEST_UNASKED_SECONDS or recipe.budget.hours is not None:
        return
    raise ResourceError(
        f"training would take {bound}{human_seconds(seconds)} on this machine.",
        mend="Set budget.hours or train.tokens to what you have time for, or use --yes to begin all the same.",
    )


def _asked_flops(recipe: Recipe) -> float:
    """The FLOPs of the recipe's training as far as it says them; 0 where the plan decides."""
    if recipe.model.is_sized and recipe.train.tokens is not None:
        return flops_per_token(recipe.model) * recipe.train.tokens
    return recipe.budget.flops or 0.0


def _build(recipe: Recipe, available: Mapping[str, int] | None, workspace: Workspace) -> dict[str, Any]:
    decision = predicted(recipe) if is_elsewhere(recipe) else _measured(recipe)
    sized, best, sizes = decision.sizes.recipe, decision.best, decision.sizes
    if recipe.budget.hours is not None:
        sizes = spend_hours(sizes, recipe.budget.hours, best.step_seconds)
    spent, shape = sizes.recipe, sizes.shape
    workspace.write_json("recipe.json", masked(_decided(spent, shape, best).model_dump(mode="json")))
    steps = steps_for(sized, shape.tokens)
    flops = flops_per_token(shape.model) * shape.tokens
    epochs = shape.tokens / available["train"] if available and available["train"] else None
    vocabulary = shape.model.vocab_size
    return {
        "parameters": shape.parameters,
        "non_embedding_parameters": shape.non_embedding_parameters,
        "tokens": shape.tokens,
        "steps": steps,
        "flops": flops,
        "flops_per_step": step_flops(shape.model, recipe.train.global_batch_size),
        "budget": {"hours": recipe.budget.hours, "flops": spent.budget.flops},
        "step_seconds": best.step_seconds,
        "interval": list(best.interval),
        "seconds": _run_seconds(sized, best.step_seconds, steps, available),
        "memory_bytes": best.memory_bytes,
        "memory": best.memory,
        "predicted_loss": credible_loss(shape.predicted_loss, vocabulary),
        "law": recipe.budget.law,
        "laws": laws_at(spent.budget.flops or flops, vocabulary),
        "epochs": epochs,
        "layout": asdict(best.layout),
        "candidates": decision.rows,
        "candidates_considered": decision.considered,
        "search_seconds": decision.search_seconds,
        "shapes": [_shape_row(neighbour, neighbour is shape) for neighbour in sizes.neighbours],
        "machine": decision.machine,
        "warnings": [*_warnings(recipe, shape, epochs), *decision.warnings],
    }


def _measured(recipe: Recipe) -> Decision:
    """The decision for this machine, by measuring it."""
    node = node_here(recipe)
    if recipe.model.is_sized:
        refuse_what_cannot_fit(recipe.model, memory_here(recipe))
    with steps_shown() as tell:
        tell("measuring this machine")
        rates = Rates({}, {}) if node else measure_rates(usable_cores())
        for name, why in rates.left_out.items():
            note(f"{name} is not tried: {why}")
        tell("starting workers")
        with start_workers(max(check_layout(recipe))) as workers:
            here = machine_of(recipe, rates.flops_per_second, workers)
            tell("sizing the model")
            sizes = size(recipe, here)
            refuse_what_cannot_fit(sizes.shape.model, memory_here(recipe))
            search = search_layouts(sizes.recipe, rates.flops_per_second, tell=tell, workers=workers)
            best = search.best
            if node is not None:
                rates = Rates({best.layout.precision: peak_of(node, best.layout.precision, workers)}, {})
    machine = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": total_memory_bytes(),
        **_of_accelerators(node),
        "gemm_flops_per_second": dict(rates.flops_per_second),
        "left_out": dict(rates.left_out),
        "peak_flops_per_second": _peak(rates, best, on_accelerators=node is not None),
    }
    return Decision(sizes, best, search.rows(), search.considered, search.seconds, machine, _busy(node, best))


def _peak(rates: Rates, best: Trial, *, on_accelerators: bool) -> float | None:
    """The yardstick of the MFU, of all processes together; None where the precision was not measured."""
    rate = rates.flops_per_second.get(best.layout.precision)
    return rate * best.layout.processes if rate is not None and on_accelerators else rate


def _of_accelerators(node: Cluster | None) -> dict[str, Any]:
    """Facts about the accelerators, where there are any; their memory is of one."""
    found = accelerators()
    if node is None or found is None:
        return {}
    told = {"name": found.name, "count": found.count, "memory_bytes": found.memory_bytes}
    return {"accelerators": {**told, "datasheet": node.accelerator if node.facts else None}}


def _decided(recipe: Recipe, shape: Shape, best: Trial) -> Recipe:
    """The recipe with nothing left open, its budget in FLOPs; checked anew."""
    layout = best.layout
    values = recipe.model_copy(update={"model": shape.model}).model_dump(mode="json")
    values["train"].update(tokens=shape.tokens, micro_batch_size=layout.micro_batch_size, precision=layout.precision)
    values["parallel"].update(layout.chosen)
    if layout.tensor == 1:
        values["parallel"]["sequence_parallel"] = False
    if layout.pipeline == 1:
        values["parallel"]["virtual_stages"] = 1
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise explain(error, {}, recipe.name) from error


def _run_seconds(recipe: Recipe, step_seconds: float, steps: int, available: Mapping[str, int] | None) -> float:
    """Training, and its validations: a sequence that is only scored takes a third of one that is learned from."""
    train = recipe.train
    scored = train.validation_sequences * (steps // train.validation_interval)
    if available:
        scored += available["validation"] // recipe.model.sequence_length
    return step_seconds * (steps + scored / train.global_batch_size / 3)


def _warnings(recipe: Recipe, shape: Shape, epochs: float | None) -> list[str]:
    """Reasons to doubt the plan, in sentences."""
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
    return said


def _busy(node: Cluster | None, best: Trial) -> list[str]:
    if node is not None or best.memory_bytes <= available_memory_bytes():
        return []
    return ["other programs hold so much of this machine's memory now that the run would not fit beside them."]


def _shape_row(shape: Shape, chosen: bool) -> dict[str, Any]:
    return {
        "num_layers": shape.model.num_layers,
        "hidden_size": shape.model.hidden_size,
        "num_heads": shape.model.num_heads,
        "parameters": shape.parameters,
        "non_embedding_parameters": shape.non_embedding_parameters,
        "tokens": shape.tokens,
        "predicted_loss": credible_loss(shape.predicted_loss, shape.model.vocab_size),
        "chosen": chosen,
    }
