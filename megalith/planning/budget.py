"""Budgets: compute-optimal parameters, tokens and loss by each law, side by side, and hours turned into FLOPs.

A budget in FLOPs goes to the laws as it is. One in hours first becomes FLOPs: on a cluster by the MFU that the best
layout of such a model is predicted to reach, on this machine by the rate that a step of it is measured to reach. The
model depends on the FLOPs and the rate on the model, so the choice is repeated until the model stands still.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from megalith.arithmetic import flops_per_token, parameters
from megalith.console import note, progress
from megalith.errors import RecipeError
from megalith.laws import FLOPS_PER_PARAMETER_AND_TOKEN, LAWS, Law, compute_optimal, law_named
from megalith.planning.shapes import DEEPEST, choose_shape, width
from megalith.recipe import ClusterConfig, ModelConfig, Recipe
from megalith.topology import LOCAL, Cluster, describe

MODEL = ModelConfig(
    sequence_length=2048, positions="rotary", norm="rmsnorm", activation="swiglu", bias=False, tie_embeddings=False
)
"""Stands for a model of which only the number of parameters is known: Llama's block, GPT-2's vocabulary."""
LAWS_VOCABULARY = 32_000  # of Chinchilla's tokenizer (2203.15556), where no recipe says another
DAYS = 30  # about as many nodes as end within these, where nobody says how many
_GUESS = 0.4  # MFU before anything is predicted

# Standard deviation of the refit's loss at its own optimum, by log10 of the FLOPs: 600 bootstraps of its 240 points,
# as 2404.10102 draws them. It is of the fit, not of one run.
_REFIT_LOSS_ERROR = (
    (18.0, 0.0078), (19.0, 0.0016), (20.0, 0.0014), (21.0, 0.0029), (22.0, 0.0064), (23.0, 0.0101), (24.0, 0.0134),
    (25.0, 0.0162), (26.0, 0.0183),
)  # fmt: skip


@dataclass(frozen=True)
class Reached:
    """The best layout of a model on a cluster."""

    mfu: float
    mfu_interval: tuple[float, float]
    shape: dict[str, int]
    figures: dict[str, Any]
    """The layout, for the table."""


Reach = Callable[[ModelConfig, int], Reached]
"""The MFU of a model at a global batch, in sequences."""


@dataclass(frozen=True)
class Machines:
    """The machines of a recipe, all of them together."""

    peak_flops_per_second: float
    reach: Callable[[ModelConfig], float]
    """FLOPs per second in the training step of a sized model."""


def budget(flops: float, vocab_size: int = LAWS_VOCABULARY, fitted: Sequence[str] = ()) -> dict[str, Any]:
    """Compute-optimal parameters and tokens for `flops` by each published law, and those of the files `fitted`.

    The keys are those of `--json`.
    """
    if not 0 < flops < float("inf"):
        raise RecipeError(f"a budget of {flops:g} FLOPs buys nothing.", mend="Use a positive number, such as 1e21.")
    return {"flops": flops, "laws": laws_at(flops, vocab_size, fitted)}


def budget_of(recipe: Recipe, fitted: Sequence[str] = ()) -> dict[str, Any]:
    """Parameters and tokens that the recipe's budget buys by each law; the keys are those of `--json`.

    Raises RecipeError for a recipe without a budget, and for hours in which nothing can be trained.
    """
    asked = recipe.budget
    if not asked.is_given:
        raise RecipeError(
            "this recipe has no budget.", mend="Set budget.flops=1e21 or budget.hours=24, or use --flops."
        )
    if asked.hours is None or recipe.cluster.name == LOCAL:
        told = {} if asked.hours is None else {"hours": asked.hours}
        return {**told, **budget(in_flops(recipe).budget.flops or 0.0, recipe.model.vocab_size, fitted)}
    machines = describe(recipe.cluster)
    named = str(recipe.cluster.file or machines.name)
    return budget_on_cluster(asked.hours * machines.accelerators, named, machines.nodes, fitted=fitted)


def in_flops(recipe: Recipe, machines: Machines | None = None) -> Recipe:
    """The recipe with its budget in FLOPs: budget.hours at the rate that its own model reaches on its machines.

    `machines` says how fast they are; without it this machine is measured, or a cluster's best layout predicted.
    """
    hours = recipe.budget.hours
    if hours is None:
        return recipe
    seconds = hours * 3600

    def model_for(flops: float) -> ModelConfig:
        return recipe.model if recipe.model.is_sized else choose_shape(with_flops(recipe, flops))[0].model

    with nullcontext(machines) if machines else _machines(recipe) as here:
        guess = _GUESS * here.peak_flops_per_second * seconds
        _, flops = settle(guess, model_for, lambda model: here.reach(model) * seconds)
    return with_flops(recipe, flops)


def with_flops(recipe: Recipe, flops: float) -> Recipe:
    """The recipe with this budget in place of its own."""
    return recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"flops": flops, "hours": None})})


def sized(recipe: Recipe, machines: Machines | None = None) -> Recipe:
    """The recipe with the shape that the plan would choose, and the tokens that go with it, if it has no shape."""
    if recipe.model.is_sized:
        return recipe
    shape = choose_shape(in_flops(recipe, machines))[0]
    train = recipe.train.model_copy(update={"tokens": shape.tokens})
    return recipe.model_copy(update={"model": shape.model, "train": train})


def settle(
    flops: float, model_for: Callable[[float], ModelConfig], flops_with: Callable[[ModelConfig], float]
) -> tuple[ModelConfig, float]:
    """The model that is chosen for the very FLOPs that it reaches, and these, from a first guess.

    Of two models that take turns with each other, the later one.
    """
    seen: set[int | None] = set()
    while (model := model_for(flops)).num_layers not in seen:
        seen.add(model.num_layers)
        last, flops = model, flops_with(model)
    return last, flops


def laws_at(flops: float, vocab_size: int, fitted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each law, published and then fitted: optimum, how sure it is, whether smaller than the law's models.

    A loss above that of a guess among `vocab_size` tokens is not a forecast: it is left out, and `loss_note` says why.
    """
    return [_row(law, flops, vocab_size) for law in _all_laws(fitted)]


def _all_laws(fitted: Sequence[str]) -> list[Law]:
    return [*LAWS.values(), *map(law_named, fitted)]


def credible_loss(loss: float | None, vocab_size: int) -> float | None:
    """`loss`, or None where it is above the loss of an even guess among `vocab_size` tokens, ln(vocab_size) nats."""
    return None if loss is None or loss > math.log(vocab_size) else loss


def budget_on_cluster(
    hours: float,
    cluster: str,
    nodes: int | None = None,
    *,
    reach: Callable[[Cluster], Reach] | None = None,
    fitted: Sequence[str] = (),
) -> dict[str, Any]:
    """Parameters and tokens that `hours` of one accelerator of `cluster` buy, by each law.

    FLOPs follow from the MFU that the law's model is predicted to reach on `nodes` nodes (default: as many as end in
    about a month), by the layout search or by `reach`. An MFU counts attention, a law 6·N·D: `flops` are the law's, and
    `model_flops` the MFU's. Raises RecipeError for an unknown cluster, and for hours that
    buy nothing.
    """
    if not 0 < hours < float("inf"):
        raise RecipeError(f"{hours:g} GPU-hours buy nothing.", where="--gpu-hours", mend="Use a positive number.")
    if cluster == LOCAL:
        raise RecipeError(
            "a budget of this machine's hours is not predicted, only a cluster's.",
            where="--cluster",
            mend="Use --flops, a recipe with budget.hours, or --cluster selene or another that is described.",
        )
    named = ClusterConfig.model_validate(cluster)
    taken = nodes or _enough_nodes(hours, describe(named))
    machines = describe(named.model_copy(update={"nodes": taken}))
    reaching = (reach or _searched)(machines)
    peak = hours * 3600 * (machines.peak_flops_per_second or math.nan)
    batch = batch_near(_GUESS * peak, machines.accelerators)
    rows = []
    with progress() as display:
        laws = _all_laws(fitted)
        task = display.add_task("searching layouts by each law", total=len(laws))
        guess = _GUESS
        for law in laws:
            rows.append(_law_on_cluster(law, peak, batch, reaching, guess))
            guess = rows[-1]["mfu"]  # the next law's model reaches about as much
            display.advance(task)
    return {
        "gpu_hours": hours,
        "cluster": machines.name,
        "accelerator": machines.accelerator,
        "nodes": machines.nodes,
        "accelerators": machines.accelerators,
        "nodes_chosen": nodes is None,
        "days": hours / machines.accelerators / 24,
        "global_batch_size": batch,
        "laws": rows,
    }


def shape_near(count: float) -> ModelConfig:
    """The shape whose parameters come nearest to `count`, in whole groups of eight heads."""
    return min(_family(), key=lambda model: abs(math.log(parameters(model).total / count)))


def batch_near(flops: float, accelerators: int) -> int:
    """Sequences of a global batch: 0.292 · C^0.3271 tokens (DeepSeek LLM, 2401.02954, equation 2), in whole shares of
    any layout on so many accelerators."""
    wanted = 0.2920 * math.pow(flops, 0.3271) / MODEL.sequence_length
    unit = next(
        (accelerators // part for part in (1, 2, 4, 8) if accelerators % part == 0 and wanted >= accelerators // part),
        max(1, accelerators // 8),
    )
    return max(1, round(wanted / unit)) * unit


def _law_on_cluster(law: Law, peak: float, batch: int, reach: Reach, guess: float) -> dict[str, Any]:
    """The law's row for the model that is its choice at the FLOPs it reaches; `peak` is the FLOPs at an MFU of 1.

    `guess` is the MFU that is tried first.
    """
    model, flops = settle(
        guess * peak,
        lambda flops: shape_near(compute_optimal(flops, law.name).parameters),
        lambda model: reach(model, batch).mfu * peak * _counted_share(model),
    )
    reached = reach(model, batch)
    low, high = (mfu * peak * _counted_share(model) for mfu in reached.mfu_interval)
    row = _row(law, flops)
    ends = [_row(law, end) for end in (low, high)]
    intervals = {name: _hull([row, *ends], name) for name in ("parameters", "tokens", "loss")}
    return {
        **row,
        "interval": intervals["parameters"],
        "intervals": intervals,
        "flops": flops,
        "flops_interval": [low, high],
        "model_flops": reached.mfu * peak,
        "mfu": reached.mfu,
        "shape": reached.shape,
        **reached.figures,
    }


def _counted_share(model: ModelConfig) -> float:
    """The part of the model's FLOPs that a law counts, 6 for each parameter and token: attention is not in it."""
    return FLOPS_PER_PARAMETER_AND_TOKEN * parameters(model).total / flops_per_token(model)


def _hull(rows: list[dict[str, Any]], name: str) -> list[float] | None:
    """From the lowest to the highest of the rows' intervals; None where the law has none."""
    intervals = [row["intervals"][name] for row in rows]
    if any(interval is None for interval in intervals):
        return None
    return [min(low for low, _ in intervals), max(high for _, high in intervals)]


def _row(law: Law, flops: float, vocab_size: int = LAWS_VOCABULARY) -> dict[str, Any]:
    optimum = compute_optimal(flops, law.name)
    sizes = list(optimum.interval) if optimum.interval else None
    tokens = [flops / 6 / size for size in reversed(sizes)] if sizes else None
    return {
        "law": law.name,
        "parameters": optimum.parameters,
        "tokens": optimum.tokens,
        "loss": credible_loss(optimum.loss, law.vocab_size or vocab_size),
        "loss_note": _loss_note(optimum.loss, law.vocab_size or vocab_size),
        "interval": sizes,
        "intervals": {"parameters": sizes, "tokens": tokens, "loss": _loss_interval(law, optimum.loss, flops)},
        "intervals_from": law.intervals_from,
        "extrapolated": optimum.parameters < law.smallest_parameters,
        "source": law.source,
    }


def _loss_note(loss: float | None, vocab_size: int) -> str | None:
    """Why a loss that the law's formula gives is left out; None where it is not."""
    if loss is None or credible_loss(loss, vocab_size) is not None:
        return None
    guess = f"an even guess among {vocab_size:,} tokens has {math.log(vocab_size):.1f}"
    return f"its formula gives a loss of {loss:.1f} nats here, and {guess}: not a forecast"


def _loss_interval(law: Law, loss: float | None, flops: float) -> list[float] | None:
    if law.draws and loss is not None:
        return _drawn_loss_interval(law, flops)
    if law.name != "chinchilla-refit" or loss is None:
        return None
    places, errors = zip(*_REFIT_LOSS_ERROR, strict=True)
    error = 1.96 * float(np.interp(math.log10(flops), places, errors))
    return [loss - error, loss + error]


def _drawn_loss_interval(law: Law, flops: float) -> list[float]:
    """95 % of the least losses that the law's bootstrap draws find for the budget."""
    losses = []
    for draw in law.draws:
        best = draw.optimal_parameters(flops)
        losses.append(draw(best, flops / FLOPS_PER_PARAMETER_AND_TOKEN / best))
    return [float(end) for end in np.quantile(losses, (0.025, 0.975))]


def _enough_nodes(hours: float, cluster: Cluster) -> int:
    """A power of two, which divides well."""
    wanted = hours / (24 * DAYS * cluster.accelerators_per_node)
    exponent = max(0, round(math.log2(wanted)))
    return 1 << (exponent if cluster.most_nodes is None else min(exponent, cluster.most_nodes.bit_length() - 1))


@cache
def _family() -> list[ModelConfig]:
    models = []
    for depth in range(4, DEEPEST + 1, 4):
        head = 64 if depth < 24 else 128
        hidden = max(1, round(width(depth) / (8 * head))) * 8 * head
        shape = {"num_layers": depth, "hidden_size": hidden, "num_heads": hidden // head}
        ffn = round(8 * hidden / 3 / 256) * 256  # of a gated MLP: as many weights as 4 · hidden without a gate
        models.append(MODEL.model_copy(update={**shape, "ffn_hidden_size": ffn}))
    return models


def _machines(recipe: Recipe) -> AbstractContextManager[Machines]:
    """This machine, measured; or a cluster, at the MFU that a model's best layout is predicted to reach there."""
    if recipe.cluster.name == LOCAL:
        from megalith.planning.measuring.local_layouts import measured_machine

        note("measuring this machine: the budget is in hours")
        return measured_machine(recipe)
    machines = describe(recipe.cluster)
    peak = (machines.peak_flops_per_second or math.nan) * machines.accelerators
    reach = _searched(machines)
    return nullcontext(Machines(peak, lambda model: reach(model, recipe.train.global_batch_size).mfu * peak))


def _searched(cluster: Cluster) -> Reach:
    """By the layout search; each model at each batch once."""
    from megalith.planning.search import Evaluator, Question, best_layout, choices

    known: dict[tuple[int | None, int], Reached] = {}

    def reach(model: ModelConfig, batch: int) -> Reached:
        key = (model.num_layers, batch)
        if key not in known:
            found = best_layout(Question(model, cluster, batch), Evaluator(), kept=1)
            if found is None:
                raise RecipeError(
                    f"no layout of a model of {parameters(model).total:.3g} parameters fits on {cluster.nodes} nodes "
                    f"of {cluster.name}.",
                    where="--nodes",
                    mend="Use more nodes.",
                )
            step = found.best.step
            low, high = (step.mfu * step.seconds / end for end in reversed(step.interval))
            shape = {"num_layers": model.layers, "hidden_size": model.hidden, "num_heads": model.heads}
            figures = {"best": choices(found.best.job), "step_seconds": step.seconds}
            known[key] = Reached(step.mfu, (low, high), shape, figures)
        return known[key]

    return reach
