"""The layout on this machine: how many processes, threads, sequences at a time, and in which precision.

The step time is measured, not derived. Workers time the real loss forward and backward of the model at its own width,
at two depths where the whole would take long (a layer's time is the difference), side by side in as many processes as
the layout has; then clipping with AdamW, and the all-reduce. A step is

    micro-batches · (shallow + layers beyond · seconds per layer) + optimizer + all-reduce.

Reading tokens and writing a line of history are not in it. Micro-batches and processes are tried in the precision whose
products are faster here; the other precision is then tried on the best of them. The default is one process with all
threads, the largest micro-batch, fp32; another layout is taken only where it is faster by `MARGIN`, so that noise does
not decide. A layout whose answer takes far longer than its FLOPs promise is given up, and the search goes on.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from megalith.arithmetic import head_forward_flops, layer_forward_flops, step_flops
from megalith.batches import batch_unit, micro_batches, powers_of_two_dividing
from megalith.console import human_bytes
from megalith.errors import RecipeError, ResourceError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.budget import Machines
from megalith.planning.candidates import Candidate, Layout, Search, error_of, undisturbed
from megalith.planning.given import axes, is_given, try_given
from megalith.planning.memory import USABLE_SHARE, training_memory
from megalith.planning.workers import SlowAnswerError, Workers, start_workers
from megalith.precision import Precision
from megalith.rates import measure_rates
from megalith.recipe import ModelConfig, ParallelConfig, Recipe

MARGIN = 0.05  # a layout must be this much faster than the default to be taken
MOST_PROCESSES = 8
MOST_TOKENS = 16384  # of a micro-batch: more gains nothing on a CPU
PROBE_SECONDS = 0.5  # for each layout
SEARCH_SECONDS = 7.0  # after this, counted from when the workers are ready, what has not been measured stays so
PRECISION_SECONDS = 3.0  # beside that, for the other precision
BEST_FEW = 2  # layouts that are tried in the other precision too
SLOWER = 10  # times as long as its FLOPs promise, and
LEAST_LIMIT_SECONDS = 20.0  # beside that, before an answer is no longer waited for: other programs run too
MOST_SLOW = 2  # answers that are given up before the search ends

Tell = Callable[[str], object]
"""Takes a line about what is being measured."""


def search_layouts(
    recipe: Recipe, rates: Mapping[Precision, float], *, tell: Tell = lambda line: None, workers: Workers | None = None
) -> Search:
    """Measure the layouts that the recipe leaves open and choose one.

    `rates` are the FLOPs per second of a product in each precision that is worth a try; `workers`, if there are any
    already, are as many as `processes_of` says. Raises RecipeError, ResourceError or UnsupportedError where the recipe
    asks for what cannot be.
    """
    start = time.perf_counter()
    precisions = _precisions(recipe, rates)
    with _these_or_new(recipe, workers) as asked:
        if is_given(recipe):
            candidates = try_given(recipe, precisions, asked, rates["fp32"] / 2, tell)
            considered = len(candidates)
        else:
            probe = _Probe(recipe, asked, rates["fp32"], tell)
            found, considered = _measure(recipe, precisions, probe, time.perf_counter() + SEARCH_SECONDS)
            candidates = [*_explain(found), *probe.given_up]
    return Search(candidates[0], candidates, considered, time.perf_counter() - start)


def reached_flops_per_second(recipe: Recipe, rates: Mapping[Precision, float], workers: Workers) -> float:
    """FLOPs per second of a training step in the default layout and the faster precision: one short measurement."""
    probe = _Probe(recipe, workers, rates["fp32"], lambda line: None)
    layout = Layout(1, probe.threads(1), probe.micro_batch_sizes(1)[0], _precisions(recipe, rates)[0])
    seconds = probe.timed(Candidate(layout, 0.0, (0.0, 0.0), {})).step_seconds
    return step_flops(recipe.model, recipe.train.global_batch_size) / seconds


@contextmanager
def measured_machine(recipe: Recipe) -> Iterator[Machines]:
    """This machine as a budget in hours needs it, measured by a worker that lives as long as the block."""
    rates = measure_rates(usable_cores()).flops_per_second
    with start_workers(1) as workers:
        yield machine_of(recipe, rates, workers)


def machine_of(recipe: Recipe, rates: Mapping[Precision, float], workers: Workers) -> Machines:
    """This machine as a budget in hours needs it, measured by `workers`."""

    def reach(model: ModelConfig) -> float:
        return reached_flops_per_second(recipe.model_copy(update={"model": model}), rates, workers)

    return Machines(max(rates.values()), reach)


def check_layout(recipe: Recipe) -> list[int]:
    """The numbers of processes to try. Raises RecipeError or UnsupportedError for a layout that cannot be."""
    return [axes(recipe).world] if is_given(recipe) else _process_counts(recipe)


def _these_or_new(recipe: Recipe, workers: Workers | None) -> AbstractContextManager[Workers]:
    return nullcontext(workers) if workers else start_workers(max(check_layout(recipe)))


def _measure(
    recipe: Recipe, precisions: list[Precision], probe: "_Probe", deadline: float
) -> tuple[list[Candidate], int]:
    """The layouts measured, the default among them first: micro-batch and processes first, then precision."""
    found: list[Candidate] = []
    considered = 0
    lead, *others = precisions
    for data in check_layout(recipe):
        sizes = probe.micro_batch_sizes(data)
        considered += len(sizes) * len(precisions)
        best_here: float | None = None
        for size in sizes:
            if (found and time.perf_counter() > deadline) or len(probe.given_up) >= MOST_SLOW:
                break
            tried = probe.tried(Layout(data, probe.threads(data), size, lead))
            if tried is None:  # too large for the memory, or too slow
                continue
            found.append(tried)
            if best_here is not None and tried.step_seconds > best_here * (1 + MARGIN):
                break  # smaller micro-batches only get slower
            best_here = min(tried.step_seconds, best_here or tried.step_seconds)
    few = [*found[:1], *sorted(found[1:], key=lambda candidate: candidate.step_seconds)[:BEST_FEW]]
    in_others = [
        tried
        for other in others
        for candidate in few or [_default(recipe, probe)]
        if time.perf_counter() < deadline + PRECISION_SECONDS
        and (tried := probe.tried(replace(candidate.layout, precision=other))) is not None
    ]
    found = sorted([*found, *in_others], key=lambda candidate: candidate.layout.precision != "fp32")
    if not found:
        raise probe.nothing_found()
    return found, considered


def _default(recipe: Recipe, probe: "_Probe") -> Candidate:
    """The first layout, which could not be measured in the first precision."""
    data = min(check_layout(recipe))
    layout = Layout(data, probe.threads(data), probe.micro_batch_sizes(data)[-1], "fp32")
    return Candidate(layout, math.inf, (math.inf, math.inf), {})


@dataclass
class _Probe:
    """Asks the workers, and remembers what they said of memory, and what did not fit or was too slow."""

    recipe: Recipe
    workers: Workers
    fp32_rate: float
    tell: Tell
    saved: dict[str, dict[str, float]] = field(default_factory=dict)
    given_up: list[Candidate] = field(default_factory=list)
    too_large: list[int] = field(default_factory=list)

    @property
    def model(self) -> ModelConfig:
        return self.recipe.model

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

    def tried(self, layout: Layout) -> Candidate | None:
        """The layout, measured; None where it takes more memory than there is, or far longer than expected."""
        self.tell(f"measuring {_named(layout)}")
        memory: dict[str, int] = {}
        try:
            memory = self._memory(layout)
            if sum(memory.values()) > USABLE_SHARE * total_memory_bytes():
                self.too_large.append(sum(memory.values()))
                return None
            return self.timed(Candidate(layout, 0.0, (0.0, 0.0), memory))
        except SlowAnswerError:
            why = f"not measured: took longer than {self._limit(layout):.0f} s"
            self.given_up.append(Candidate(layout, math.inf, (math.inf, math.inf), memory, why))
            self.tell(f"{_named(layout)}: {why}")
            return None

    def timed(self, candidate: Candidate) -> Candidate:
        """The candidate with its step time, of the slowest rank. Raises SlowAnswerError."""
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
        answers = self.workers.ask(question, layout.data, seconds=self._limit(layout))
        steps = [self._step(answer, depths, layout) for answer in answers]
        seconds, error = (max(column) for column in zip(*steps, strict=True))
        return replace(candidate, step_seconds=seconds, interval=(seconds / (1 + error), seconds * (1 + error)))

    def nothing_found(self) -> ResourceError:
        """The error of a search in which no layout could be measured."""
        if self.too_large:
            least = human_bytes(min(self.too_large))
            said = f"training takes {least}, and this machine has {human_bytes(total_memory_bytes())}"
        else:
            said = f"no layout could be measured: {self.given_up[0].why.removeprefix('not measured: ')}"
        return ResourceError(
            f"{said}.",
            mend="Use a smaller model, a smaller train.micro_batch_size or a shorter model.sequence_length.",
        )

    def _memory(self, layout: Layout) -> dict[str, int]:
        if layout.precision not in self.saved:
            question = {"ask": "memory", "model": self.model.model_dump(mode="json"), "precision": layout.precision}
            self.saved[layout.precision] = self.workers.ask(question, seconds=self._limit(layout))[0]
        saved, base = self.saved[layout.precision], self.workers.base_bytes
        parallel = ParallelConfig(data=layout.data)
        return training_memory(self.model, layout.micro_batch_size, parallel, layout.precision, saved, base)

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

    def _limit(self, layout: Layout) -> float:
        """Seconds after which an answer is no longer waited for: of the calls that the worker makes at the least."""
        calls = sum(
            4 * self._seconds(depth, layout.micro_batch_size) for depth in self._depths(layout.micro_batch_size)
        )
        return LEAST_LIMIT_SECONDS + SLOWER * (PROBE_SECONDS + calls)

    def _seconds(self, layers: int, micro_batch_size: int) -> float:
        """A guess from FLOPs, good enough to say what is quick: a whole model reaches half of a product's rate."""
        forward = layers * layer_forward_flops(self.model) + head_forward_flops(self.model)
        return 3 * forward * micro_batch_size * self.model.sequence_length / (self.fp32_rate / 2)


def _named(layout: Layout) -> str:
    """The layout in words."""
    processes = "1 process" if layout.data == 1 else f"{layout.data} processes"
    threads = "1 thread" if layout.threads_per_process == 1 else f"{layout.threads_per_process} threads"
    return f"{processes} of {threads}, micro-batches of {layout.micro_batch_size}, {layout.precision}"


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
                mend="Use a divisor of the batch (and of its ramp).",
            )
        return [recipe.parallel.data]
    unit = batch_unit(recipe) // (recipe.train.micro_batch_size or 1)
    return powers_of_two_dividing(unit, min(usable_cores(), MOST_PROCESSES)) or [1]


def _precisions(recipe: Recipe, rates: Mapping[Precision, float]) -> list[Precision]:
    """The recipe's, or those that are worth a try, the one with the faster product first."""
    asked = recipe.train.precision
    if asked != "auto":
        return [asked]
    known: list[Precision] = [name for name in ("fp32", "bf16") if name in rates]
    return sorted(known, key=lambda name: -rates[name])
