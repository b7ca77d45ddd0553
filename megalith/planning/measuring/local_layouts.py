"""The layout on this machine: how many processes, threads, sequences at a time, and in which precision.

On a machine with accelerators it is one on them (`accelerator_layouts`); the rest is of processors. The step time is
measured, not derived (`layout_trials`). Micro-batches and processes are tried in the precision whose products are
faster here; the other precision is then tried on the best of them. The default is one process with all threads, the
largest micro-batch, fp32; another layout is taken only where it is faster by `MARGIN`, so that noise does not decide. A
layout that the recipe gives on more axes than data is not searched for, but tried as it is.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from megalith.arithmetic import step_flops
from megalith.batches import batch_unit, powers_of_two_dividing
from megalith.errors import RecipeError
from megalith.machine import usable_cores
from megalith.planning.budget import Machines
from megalith.planning.measuring.accelerator_layouts import machines_here, node_here, search_accelerators, worlds
from megalith.planning.measuring.layout_trials import Tell, Trial, Trials
from megalith.planning.measuring.rates import measure_rates
from megalith.planning.measuring.workers import Workers, start_workers
from megalith.precision import Precision
from megalith.recipe import ModelConfig, Recipe
from megalith.topology import Layout, describe
from megalith.topology import check_layout as check_axes

MARGIN = 0.05  # a layout must be this much faster than the default to be taken
MOST_PROCESSES = 8
SEARCH_SECONDS = 7.0  # after this, counted from when the workers are ready, what has not been measured stays so
PRECISION_SECONDS = 3.0  # beside that, for the other precision
BEST_FEW = 2  # layouts that are tried in the other precision too
MOST_SLOW = 2  # answers that are given up before the search ends

ProductRates = Mapping[Precision, float]
"""FLOPs per second of a product in each precision that is worth a try."""


@dataclass(frozen=True)
class LocalSearch:
    """The best layout, all that were tried (the best first), and the time that the search took."""

    best: Trial
    trials: list[Trial]
    considered: int
    seconds: float

    def rows(self) -> list[dict[str, Any]]:
        """Every layout that was tried, the chosen one first, as `--json` has it; without seconds where it has none."""
        return [
            {
                **asdict(trial.layout),
                "step_seconds": trial.step_seconds if trial.is_measured else None,
                "memory_bytes": trial.memory_bytes or None,
                "why": trial.why,
            }
            for trial in self.trials
        ]


def search_layouts(
    recipe: Recipe, rates: ProductRates, *, tell: Tell = lambda line: None, workers: Workers | None = None
) -> LocalSearch:
    """Measure the layouts that the recipe leaves open and choose one.

    `workers`, if there are any already, are as many as `check_layout` says. Raises RecipeError, ResourceError or
    UnsupportedError where the recipe asks for what cannot be.
    """
    start = time.perf_counter()
    node = node_here(recipe)
    if node is not None:
        with _these_or_new(recipe, workers) as asked:
            on_them = search_accelerators(recipe, node, asked, tell=tell)
        return LocalSearch(
            on_them.trials[0], on_them.trials, on_them.considered, time.perf_counter() - start
        )  # fmt: skip
    precisions = _precisions(recipe, rates)
    with _these_or_new(recipe, workers) as asked:
        trials = Trials(recipe, asked, rates["fp32"], tell)
        if _is_given(recipe):
            layout, considered = _axes(recipe), len(precisions)
            each = [trial for name in precisions if (trial := trials.whole(layout, name)) is not None]
            found = sorted(each, key=lambda trial: trial.step_seconds)
            found = [replace(trial, why="chosen: the recipe's own") for trial in found]
        else:
            each, considered = _measure(recipe, precisions, trials, time.perf_counter() + SEARCH_SECONDS)
            found = _explain(each) if each else []
    if not found:
        raise trials.nothing_found()
    return LocalSearch(found[0], [*found, *trials.given_up], considered, time.perf_counter() - start)


@contextmanager
def measured_machine(recipe: Recipe) -> Iterator[Machines]:
    """This machine as a budget in hours needs it, measured by a worker that lives as long as the block."""
    rates = {} if node_here(recipe) else measure_rates(usable_cores()).flops_per_second
    with start_workers(1) as workers:
        yield machine_of(recipe, rates, workers)


def machine_of(recipe: Recipe, rates: ProductRates, workers: Workers) -> Machines:
    """This machine as a budget in hours needs it: the default layout in the faster precision, measured by `workers`.

    Raises ResourceError for a model that does not fit.
    """
    node = node_here(recipe)
    if node is not None:
        return machines_here(recipe, node, workers)

    def reach(model: ModelConfig) -> float:
        sized = recipe.model_copy(update={"model": model})
        trials = Trials(sized, workers, rates["fp32"])
        trial = trials.in_pieces(1, trials.micro_batch_sizes(1)[0], _precisions(recipe, rates)[0])
        if trial is None:
            raise trials.nothing_found()
        return step_flops(model, recipe.train.global_batch_size) / trial.step_seconds

    return Machines(max(rates.values()), reach)


def check_layout(recipe: Recipe) -> list[int]:
    """The numbers of processes to try. Raises RecipeError or UnsupportedError for a layout that cannot be."""
    node = node_here(recipe)
    if node is not None:
        _axes(recipe, whole=False)
        return worlds(recipe, node)
    return [_axes(recipe).world] if _is_given(recipe) else _process_counts(recipe)


def _is_given(recipe: Recipe) -> bool:
    """Whether the recipe spreads the model over more than the data axis, or in a way that the search does not try."""
    parallel = recipe.parallel
    spread = (parallel.tensor or 1) * (parallel.pipeline or 1) * (parallel.context or 1) > 1
    return spread or parallel.zero > 0 or parallel.recompute != "none"


def _axes(recipe: Recipe, *, whole: bool = True) -> Layout:
    """The layout's sizes, 1 where open. Raises RecipeError for a layout that cannot be.

    Without `whole`, one whose axes are not all given is not looked at: what is open may become another size than 1.
    """
    parallel = recipe.parallel
    layout = Layout(parallel.tensor or 1, parallel.pipeline or 1, parallel.data or 1, parallel.context or 1)
    given = all((parallel.tensor, parallel.pipeline, parallel.data))
    if recipe.model.is_sized and (whole or given):
        check_axes(describe(recipe.cluster), layout, recipe.model, parallel, recipe.train)
    return layout


def _these_or_new(recipe: Recipe, workers: Workers | None) -> AbstractContextManager[Workers]:
    return nullcontext(workers) if workers else start_workers(max(check_layout(recipe)))


def _measure(recipe: Recipe, precisions: list[Precision], trials: Trials, deadline: float) -> tuple[list[Trial], int]:
    """The layouts measured, the default among them first: micro-batch and processes first, then precision."""
    found: list[Trial] = []
    considered = 0
    lead, *others = precisions
    for data in check_layout(recipe):
        sizes = trials.micro_batch_sizes(data)
        considered += len(sizes) * len(precisions)
        best_here: float | None = None
        for size in sizes:
            if (found and time.perf_counter() > deadline) or len(trials.given_up) >= MOST_SLOW:
                break
            trial = trials.in_pieces(data, size, lead)
            if trial is None:  # too large for the memory, or too slow
                continue
            found.append(trial)
            if best_here is not None and trial.step_seconds > best_here * (1 + MARGIN):
                break  # smaller micro-batches only get slower
            best_here = min(trial.step_seconds, best_here or trial.step_seconds)
    few = [*found[:1], *sorted(found[1:], key=lambda trial: trial.step_seconds)[:BEST_FEW]]
    again = [(trial.layout.data, trial.layout.micro_batch_size) for trial in few]
    if not again:  # none could be measured in the first precision
        data = min(check_layout(recipe))
        again = [(data, trials.micro_batch_sizes(data)[-1])]
    in_others = [
        trial
        for other in others
        for data, size in again
        if time.perf_counter() < deadline + PRECISION_SECONDS
        and (trial := trials.in_pieces(data, size, other)) is not None
    ]
    return sorted([*found, *in_others], key=lambda trial: trial.layout.precision != "fp32"), considered


def _explain(found: list[Trial]) -> list[Trial]:
    """All trials, the chosen one first and the others by time, each with its reason."""
    chosen, default = _preferred(found), found[0]
    others = sorted((other for other in found if other is not chosen), key=lambda other: other.step_seconds)
    gain = default.step_seconds / chosen.step_seconds - 1
    first = "chosen: the default" if chosen is default else f"chosen: {100 * gain:.0f} % faster than the default"
    return [replace(chosen, why=first), *[replace(other, why=_why(other, chosen)) for other in others]]


def _why(other: Trial, chosen: Trial) -> str:
    behind = other.step_seconds / chosen.step_seconds - 1
    if behind < 0:
        return f"{-100 * behind:.0f} % faster, within the noise"
    return f"{100 * behind:.0f} % slower"


def _preferred(found: list[Trial]) -> Trial:
    """The first (the default), unless a later one is faster by the margin, and so on from that one."""
    chosen = found[0]
    for trial in found[1:]:
        if trial.step_seconds * (1 + MARGIN) < chosen.step_seconds:
            chosen = trial
    return chosen


def _process_counts(recipe: Recipe) -> list[int]:
    if recipe.parallel.data:
        if batch_unit(recipe) % recipe.parallel.data:
            raise RecipeError(
                f"a batch of {batch_unit(recipe)} sequences cannot be split over parallel.data={recipe.parallel.data}.",
                mend="Use a divisor of the batch (and of its ramp).",
            )
        return [recipe.parallel.data]
    unit = batch_unit(recipe) // (recipe.train.micro_batch_size or 1)
    return powers_of_two_dividing(unit, min(usable_cores(), MOST_PROCESSES)) or [1]


def _precisions(recipe: Recipe, rates: ProductRates) -> list[Precision]:
    """The recipe's, or those that are worth a try, the one with the faster product first."""
    asked = recipe.train.precision
    if asked != "auto":
        return [asked]
    known: list[Precision] = [name for name in ("fp32", "bf16") if name in rates]
    return sorted(known, key=lambda name: -rates[name])
