"""Trials of layouts on this machine: what the workers are asked, and the step that is reckoned from their answers.

A layout on the data axis alone is timed in pieces: a micro-batch at the model's own width, at two depths where the
whole would take long (a layer's time is the difference), side by side in as many processes as the layout has; then the
update, and the all-reduce. A step is

    micro-batches · (shallow + layers beyond · seconds per layer) + update + all-reduce.

A layout on other axes is run as it is: every process is started, and whole steps are timed at two numbers of
micro-batches. A step grows by a fixed time with each, so the two give the time of any number; the pipeline's bubble,
the reductions and the update are in what does not grow. Reading tokens and writing history are in neither.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from megalith.arithmetic import head_forward_flops, layer_forward_flops, step_flops
from megalith.batches import batch_unit, micro_batches, powers_of_two_dividing
from megalith.console import human_bytes
from megalith.errors import ResourceError
from megalith.machine import total_memory_bytes, usable_cores
from megalith.planning.measuring.timings import error_of, undisturbed
from megalith.planning.measuring.training_memory import USABLE_SHARE, training_memory
from megalith.planning.measuring.workers import SlowAnswerError, Workers
from megalith.precision import Precision
from megalith.recipe import ModelConfig, ParallelConfig, Recipe
from megalith.topology import Layout

TRIAL_SECONDS = 0.5  # of a layout that is timed in pieces
MOST_TOKENS = 16384  # of its micro-batch: more gains nothing on a CPU
SLOWER = 10  # times as long as its FLOPs promise, and
LEAST_LIMIT_SECONDS = 20.0  # beside that, before an answer is no longer waited for: other programs run too

STEPS_SECONDS = 1.0  # of a layout that is run whole, for each number of micro-batches
STEPS_MOST_TOKENS = 8192  # of its micro-batch, where the recipe leaves it open
STEPS_SLOWER, STEPS_LEAST_LIMIT_SECONDS = 30, 60.0  # several steps are timed, in processes that wait for one another

Tell = Callable[[str], object]
"""Takes a line about what is being measured."""


@dataclass(frozen=True)
class LocalLayout:
    """One way to run the step on this machine."""

    data: int
    threads_per_process: int
    micro_batch_size: int
    precision: Precision
    tensor: int = 1
    pipeline: int = 1
    context: int = 1

    @property
    def processes(self) -> int:
        return self.tensor * self.pipeline * self.data * self.context

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings of the recipe's section `parallel` that it decides."""
        shared = {"context": self.context} if self.context > 1 else {}
        return {"tensor": self.tensor, "pipeline": self.pipeline, "data": self.data, **shared}

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        threads = "1 thread" if self.threads_per_process == 1 else f"{self.threads_per_process} threads"
        return f"{processes} of {threads}, micro-batches of {self.micro_batch_size}, {self.precision}"


@dataclass(frozen=True)
class Trial:
    """A layout with its predicted time and memory, and why it was or was not taken."""

    layout: LocalLayout
    memory: dict[str, int] = field(default_factory=dict)
    step_seconds: float = math.inf
    interval: tuple[float, float] = (math.inf, math.inf)
    """Interval of step_seconds, from the spread of the timings and `timings.MODEL_ERROR`; no coverage is claimed."""
    why: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether it has a time; a layout that took too long to measure has none."""
        return math.isfinite(self.step_seconds)

    @property
    def memory_bytes(self) -> int:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.memory_bytes <= USABLE_SHARE * total_memory_bytes()

    def timed(self, seconds: float, error: float) -> "Trial":
        """The same with its time, and the relative error of that."""
        return replace(self, step_seconds=seconds, interval=(seconds / (1 + error), seconds * (1 + error)))


@dataclass
class Trials:
    """Asks the workers, and remembers the memory that they counted, and what did not fit or was too slow."""

    recipe: Recipe
    workers: Workers
    fp32_flops_per_second: float
    """Rate of one matrix product."""
    tell: Tell = lambda line: None
    saved: dict[Precision, dict[str, float]] = field(default_factory=dict)
    given_up: list[Trial] = field(default_factory=list)
    too_large: list[int] = field(default_factory=list)

    @property
    def model(self) -> ModelConfig:
        return self.recipe.model

    def micro_batch_sizes(self, data: int) -> list[int]:
        """The sizes to try, largest first: the recipe's own, or powers of two that divide a rank's share."""
        if self.recipe.train.micro_batch_size:
            return [self.recipe.train.micro_batch_size]
        most = max(1, MOST_TOKENS // self.model.sequence_length)
        sizes = powers_of_two_dividing(batch_unit(self.recipe) // data, most)
        quick = [size for size in sizes if self._seconds(min(2, self.model.layers), size) <= 3 * TRIAL_SECONDS]
        return sorted(quick or sizes[:1], reverse=True)

    def in_pieces(self, data: int, micro_batch_size: int, precision: Precision) -> Trial | None:
        """The layout on the data axis alone; None where it takes more memory than there is, or far too long."""
        layout = LocalLayout(data, threads_of(data), micro_batch_size, precision)
        depths = self._depths(micro_batch_size)
        once = sum(self._seconds(depth, micro_batch_size) for depth in depths)
        limit = LEAST_LIMIT_SECONDS + SLOWER * (TRIAL_SECONDS + 4 * once)
        return self._tried(layout, ParallelConfig(data=data), limit, lambda trial: self._pieces(trial, depths, limit))

    def whole(self, layout: Layout, precision: Precision) -> Trial | None:
        """The layout as the recipe gives it, on whichever axes; None as above.

        A schedule file is for one number of micro-batches, so the one that `parallel.schedule` names stands for it.
        """
        sizes = {"tensor": layout.tensor, "pipeline": layout.pipeline, "data": layout.data}
        parallel = self.recipe.parallel.model_copy(update={**sizes, "schedule_file": None})
        size = self._micro_batch_size_of(layout)
        local = LocalLayout(layout.data, threads_of(layout.world), size, precision, layout.tensor, layout.pipeline,
                            layout.context)  # fmt: skip
        promised = step_flops(self.model, self.recipe.train.global_batch_size) / (self.fp32_flops_per_second / 2)
        limit = STEPS_LEAST_LIMIT_SECONDS + STEPS_SLOWER * promised
        return self._tried(local, parallel, limit, lambda trial: self._steps(trial, parallel, limit))

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

    def _tried(
        self, layout: LocalLayout, parallel: ParallelConfig, limit: float, time: Callable[[Trial], Trial]
    ) -> Trial | None:
        self.tell(f"measuring {layout}")
        trial = Trial(layout)
        try:
            trial = Trial(layout, self._memory(layout, parallel, limit))
            if trial.fits:
                return time(trial)
            self.too_large.append(trial.memory_bytes)
        except SlowAnswerError:
            self.given_up.append(replace(trial, why=f"not measured: took longer than {limit:.0f} s"))
            self.tell(f"{layout}: {self.given_up[-1].why}")
        return None

    def _memory(self, layout: LocalLayout, parallel: ParallelConfig, limit: float) -> dict[str, int]:
        precision = layout.precision
        if precision not in self.saved:
            question = {"ask": "memory", "model": self.model.model_dump(mode="json"), "precision": precision}
            self.saved[precision] = self.workers.ask(question, seconds=limit)[0]
        base = self.workers.base_bytes
        return training_memory(self.model, layout.micro_batch_size, parallel, precision, self.saved[precision], base)

    def _pieces(self, trial: Trial, depths: list[int], limit: float) -> Trial:
        """By the slowest rank."""
        layout = trial.layout
        question = {
            "ask": "micro-batch",
            "model": self.model.model_dump(mode="json"),
            "depths": depths,
            "precision": layout.precision,
            "micro_batch_size": layout.micro_batch_size,
            "threads": layout.threads_per_process,
            "data": layout.data,
            "seconds": TRIAL_SECONDS,
        }
        answers = self.workers.ask(question, layout.data, seconds=limit)
        steps = [self._step(answer, depths, layout) for answer in answers]
        return trial.timed(*(max(column) for column in zip(*steps, strict=True)))

    def _step(self, answer: dict[str, Any], depths: list[int], layout: LocalLayout) -> tuple[float, float]:
        """Seconds of a step, and the relative error that they are given."""
        micro = undisturbed(answer[str(depths[-1])])
        if len(depths) == 2:
            shallow = undisturbed(answer[str(depths[0])])
            per_layer = max(0.0, micro - shallow) / (depths[1] - depths[0])
            micro += per_layer * (self.model.layers - depths[1])
        count = micro_batches(self.recipe.train.global_batch_size, layout.data, layout.micro_batch_size)
        return count * micro + answer["update"] + answer["all_reduce"], error_of(answer[str(depths[-1])])

    def _steps(self, trial: Trial, parallel: ParallelConfig, limit: float) -> Trial:
        return time_steps(trial, self.recipe, parallel, self.workers, limit)

    def _micro_batch_size_of(self, layout: Layout) -> int:
        """The recipe's, or the largest that leaves each stage of a pipeline a micro-batch."""
        if self.recipe.train.micro_batch_size:
            return self.recipe.train.micro_batch_size
        share = self.recipe.train.global_batch_size // layout.data
        most = max(1, STEPS_MOST_TOKENS // self.model.sequence_length)
        fitting = [n for n in powers_of_two_dividing(share, most) if share // n % layout.pipeline == 0]
        return max(fitting, default=1)

    def _depths(self, micro_batch_size: int) -> list[int]:
        """The whole model where that is quick, else one layer and as many as are quick (two at least)."""
        layers = self.model.layers
        if layers <= 2 or self._seconds(layers, micro_batch_size) <= TRIAL_SECONDS:
            return [layers]
        quick = [n for n in range(3, layers) if self._seconds(n, micro_batch_size) <= TRIAL_SECONDS / 2]
        return [1, max(quick, default=2)]

    def _seconds(self, layers: int, micro_batch_size: int) -> float:
        """A guess from FLOPs, good enough to say what is quick: a whole model reaches half of a product's rate."""
        forward = layers * layer_forward_flops(self.model) + head_forward_flops(self.model)
        return 3 * forward * micro_batch_size * self.model.sequence_length / (self.fp32_flops_per_second / 2)


def time_steps(trial: Trial, recipe: Recipe, parallel: ParallelConfig, workers: Workers, limit: float) -> Trial:
    """The trial with the time of whole steps in its layout, which `parallel` describes in full."""
    layout = trial.layout
    whole = micro_batches(recipe.train.global_batch_size, layout.data, layout.micro_batch_size)
    few = min(whole, layout.pipeline)
    counts = sorted({few, min(whole, 2 * few)})
    question = {
        "ask": "steps",
        "model": recipe.model.model_dump(mode="json"),
        "precision": layout.precision,
        "parallel": parallel.model_dump(mode="json"),
        "threads": layout.threads_per_process,
        "micro_batch_size": layout.micro_batch_size,
        "micro_batches": counts,
        "compile": recipe.train.compile is not False,
        "deterministic": bool(recipe.train.deterministic),
        "seconds": STEPS_SECONDS,
    }
    answers = workers.ask(question, layout.processes, seconds=limit)
    slowest = max(answers, key=lambda answer: undisturbed(answer[str(counts[-1])]))
    first, last = undisturbed(slowest[str(counts[0])]), undisturbed(slowest[str(counts[-1])])
    each = max(0.0, last - first) / (counts[-1] - counts[0]) if len(counts) == 2 else last / counts[-1]
    return trial.timed(last + (whole - counts[-1]) * each, error_of(slowest[str(counts[-1])]))


def threads_of(processes: int) -> int:
    """Threads of each of so many processes."""
    return max(1, usable_cores() // processes)
