"""The layout on this machine: how many processes, threads, sequences at a time, and in which precision.

The step time is measured, not derived. Workers time the real loss forward and backward of the model at its own width,
at two depths where the whole would take long (a layer's time is the difference), side by side in as many processes as
the layout has; then clipping with AdamW, and the all-reduce. A step is

    micro-batches · (shallow + layers beyond · seconds per layer) + optimizer + all-reduce.

What a step does besides (reading tokens, writing a line of history) is not in it. The default is one process with all
threads, the largest micro-batch, fp32; another layout is taken only where it is faster by `MARGIN`, so that noise does
not decide.
"""

import time
from dataclasses import replace
from typing import Any

from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.batches import batch_unit, micro_batches, powers_of_two_dividing
from megalith.console import human_bytes
from megalith.errors import RecipeError, ResourceError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.candidates import Candidate, Layout, Search, error_of, undisturbed
from megalith.planning.given import axes, is_given, try_given
from megalith.planning.memory import USABLE_SHARE, training_memory
from megalith.planning.workers import Workers, start_workers
from megalith.precision import Precision
from megalith.recipe import ParallelConfig, Recipe

MARGIN = 0.05  # a layout must be this much faster than the default to be taken
MOST_PROCESSES = 8
MOST_TOKENS = 16384  # of a micro-batch: more gains nothing on a CPU
PROBE_SECONDS = 0.5  # for each layout
SEARCH_SECONDS = 7.0  # after this, counted from when the workers are ready, what has not been measured stays so


def search_layouts(recipe: Recipe, gemm_flops_per_second: dict[str, float]) -> Search:
    """Measure the layouts that the recipe leaves open and choose one.

    Raises RecipeError, ResourceError or UnsupportedError where the recipe asks for what cannot be.
    """
    start = time.perf_counter()
    processes = check_layout(recipe)
    if is_given(recipe):
        given = try_given(recipe, _precisions(recipe))
        return Search(given[0], given, len(given), time.perf_counter() - start)
    with start_workers(max(processes)) as workers:
        probe = _Probe(recipe, workers, gemm_flops_per_second)
        found, considered = _measure(recipe, processes, probe, time.perf_counter() + SEARCH_SECONDS)
    candidates = _explain(found)
    return Search(candidates[0], candidates, considered, time.perf_counter() - start)


def check_layout(recipe: Recipe) -> list[int]:
    """The numbers of processes to try. Raises RecipeError or UnsupportedError for a layout that cannot be."""
    _precisions(recipe)
    return [axes(recipe).world] if is_given(recipe) else _process_counts(recipe)


def _measure(recipe: Recipe, processes: list[int], probe: "_Probe", deadline: float) -> tuple[list[Candidate], int]:
    """The layouts measured, the default among them first: precision first, then micro-batch and processes."""
    refused: list[str] = []
    found: list[Candidate] = []
    precisions = _precisions(recipe)
    considered = 0
    for data in processes:
        sizes = probe.micro_batch_sizes(data)
        considered += len(sizes) * len(precisions)
        best_here: float | None = None
        for size in sizes:
            tried: list[Candidate] = []
            for precision in precisions:
                if (found or tried) and time.perf_counter() > deadline:
                    break
                candidate = probe.candidate(Layout(data, probe.threads(data), size, precision))
                if candidate.memory_bytes <= USABLE_SHARE * total_memory_bytes():
                    tried.append(probe.timed(candidate))
                else:
                    refused.append(human_bytes(candidate.memory_bytes))
            found += tried
            if not tried:  # too large for the memory, or the time is up
                continue
            precisions = [_preferred(tried).layout.precision]
            seconds = _preferred(tried).step_seconds
            if best_here is not None and seconds > best_here * (1 + MARGIN):
                break  # smaller micro-batches only get slower
            best_here = min(seconds, best_here or seconds)
    if not found:
        raise ResourceError(
            f"training takes {' or '.join(refused) or 'more memory than there is'}, and this machine has "
            f"{human_bytes(total_memory_bytes())}.",
            mend="Give a smaller model, a smaller train.micro_batch_size or a shorter model.sequence_length.",
        )
    return found, considered


class _Probe:
    """Asks the workers, and remembers what they said of memory."""

    def __init__(self, recipe: Recipe, workers: Workers, gemm_flops_per_second: dict[str, float]) -> None:
        self.recipe = recipe
        self.model = recipe.model
        self.workers = workers
        self.rate = gemm_flops_per_second["fp32"] / 2  # about what a whole model reaches of a product's rate
        self.saved: dict[str, dict[str, float]] = {}

    def threads(self, data: int) -> int:
        return max(1, usable_cores() // data)

    def micro_batch_sizes(self, data: int) -> list[int]:
        """The sizes to try, largest first: the recipe's own, or powers of two that divide a rank's share."""
        if self.recipe.train.micro_batch_size:
            return [self.recipe.train.micro_batch_size]
        most = max(1, MOST_TOKENS // self.model.sequence_length)
        sizes = powers_of_two_dividing(batch_unit(self.recipe) // data, most)
        quick = [size for size in sizes if self._seconds(min(2, self.model.layers), size) <= 3 * PROBE_SECONDS]
        return sorted(quick or sizes[:1], reverse=True)

    def candidate(self, layout: Layout) -> Candidate:
        """The layout with its memory, not yet timed."""
        if layout.precision not in self.saved:
            question = {"ask": "memory", "model": self.model.model_dump(mode="json"), "precision": layout.precision}
            self.saved[layout.precision] = self.workers.ask(question)[0]
        saved, base = self.saved[layout.precision], self.workers.base_bytes
        memory = training_memory(
            self.model, layout.micro_batch_size, ParallelConfig(data=layout.data), layout.precision, saved, base
        )
        return Candidate(layout, 0.0, (0.0, 0.0), memory)

    def timed(self, candidate: Candidate) -> Candidate:
        """The candidate with its step time, of the slowest rank."""
        layout = candidate.layout
        depths = self._depths(layout.micro_batch_size)
        question = {
            "ask": "time",
            "model": self.model.model_dump(mode="json"),
            "depths": depths,
            "precision": layout.precision,
            "micro_batch_size": layout.micro_batch_size,
            "threads": layout.threads_per_process,
            "data": layout.data,
            "seconds": PROBE_SECONDS,
        }
        steps = [self._step(answer, depths, layout) for answer in self.workers.ask(question, layout.data)]
        seconds, error = (max(column) for column in zip(*steps, strict=True))
        return replace(candidate, step_seconds=seconds, interval=(seconds / (1 + error), seconds * (1 + error)))

    def _step(self, answer: dict[str, Any], depths: list[int], layout: Layout) -> tuple[float, float]:
        """Seconds of a step, and the relative error that they are given."""
        micro = undisturbed(answer[str(depths[-1])])
        if len(depths) == 2:
            shallow = undisturbed(answer[str(depths[0])])
            per_layer = max(0.0, micro - shallow) / (depths[1] - depths[0])
            micro += per_layer * (self.model.layers - depths[1])
        count = micro_batches(self.recipe.train.global_batch_size, layout.data, layout.micro_batch_size)
        return count * micro + answer["optimizer"] + answer["all_reduce"], error_of(answer[str(depths[-1])])

    def _depths(self, micro_batch_size: int) -> list[int]:
        """The whole model where that is quick, else one layer and as many as are quick (two at least)."""
        layers = self.model.layers
        if layers <= 2 or self._seconds(layers, micro_batch_size) <= PROBE_SECONDS:
            return [layers]
        quick = [n for n in range(3, layers) if self._seconds(n, micro_batch_size) <= PROBE_SECONDS / 2]
        return [1, max(quick, default=2)]

    def _seconds(self, layers: int, micro_batch_size: int) -> float:
        """A guess from FLOPs, good enough to say what is quick."""
        forward = layers * layer_forward_flops(self.model) + head_forward_flops(self.model)
        return 3 * forward * micro_batch_size * self.model.sequence_length / self.rate


def _explain(found: list[Candidate]) -> list[Candidate]:
    """All candidates, the chosen one first and the others by time, each with its reason."""
    chosen, default = _preferred(found), found[0]
    others = sorted((other for other in found if other is not chosen), key=lambda other: other.step_seconds)
    gain = default.step_seconds / chosen.step_seconds - 1
    first = "chosen: the default" if chosen is default else f"chosen: {100 * gain:.0f} % faster than the default"
    return [replace(chosen, why=first), *[replace(other, why=_why(other, chosen)) for other in others]]


def _why(other: Candidate, chosen: Candidate) -> str:
    behind = other.step_seconds / chosen.step_seconds - 1
    if behind < 0:
        return f"{-100 * behind:.0f} % faster, within the noise"
    return f"{100 * behind:.0f} % slower"


def _preferred(found: list[Candidate]) -> Candidate:
    """The first (the default), unless a later one is faster by the margin, and so on from that one."""
    chosen = found[0]
    for candidate in found[1:]:
        if candidate.step_seconds * (1 + MARGIN) < chosen.step_seconds:
            chosen = candidate
    return chosen


def _process_counts(recipe: Recipe) -> list[int]:
    if recipe.parallel.data:
        if batch_unit(recipe) % recipe.parallel.data:
            raise RecipeError(
                f"a batch of {batch_unit(recipe)} sequences cannot be split over parallel.data={recipe.parallel.data}.",
                mend="Give a divisor of the batch (and of its ramp).",
            )
        return [recipe.parallel.data]
    unit = batch_unit(recipe) // (recipe.train.micro_batch_size or 1)
    return powers_of_two_dividing(unit, min(usable_cores(), MOST_PROCESSES)) or [1]


def _precisions(recipe: Recipe) -> list[Precision]:
    asked = recipe.train.precision
    return ["fp32", "bf16"] if asked == "auto" else [asked]
