"""Measuring this machine: workers in the numbers that the asked layouts have, asked for every block in several passes.

Of a repetition the slowest worker counts, and of the repetitions the median of the faster half: what other programs
have slowed is left out. A pass goes through all numbers of processes, so that a slow minute hits all of them alike.
"""

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from megalith.console import progress
from megalith.errors import RecipeError
from megalith.job import Job
from megalith.machine import cpu_name, total_memory_bytes, usable_cores
from megalith.planning.measuring.block_settings import TOY, Setting, all_settings
from megalith.planning.measuring.machine_file import Block, BlockTable, Message, Runner
from megalith.planning.measuring.timings import quartile_spread, undisturbed
from megalith.planning.measuring.workers import Workers, start_workers
from megalith.recipe import ModelConfig

DEPTHS = (1, 3)
PASSES = 3
WARM_SECONDS = 1.0  # workers that have waited for their turn are slow for about as long
BLOCK_SECONDS = 0.8  # of each depth of each block in a pass
MESSAGE_SECONDS = 0.05
PIPELINE_SECONDS = 0.3
COPIED_BYTES = 2**26
MESSAGE_BYTES = (8, 2**12, 2**16, 2**18, 2**20, 2**22, 2**24)
PRODUCTS = ((4096, 128, 512), (1024, 1024, 1024), (2048, 2048, 2048))  # (M, K) × (K, N)
BEGIN_SECONDS = 0.3  # of each question, and
START_SECONDS = 2.0  # of each worker: about, to say how long it will take

Key = tuple[object, ...]
Question = Mapping[str, Any]
Times = dict[str, list[float]]


def measure(jobs: Sequence[Job], *, passes: int = PASSES, seconds: float = BLOCK_SECONDS) -> BlockTable:
    """This machine as the jobs' layouts need it; their models may differ in depth alone.

    Raises RecipeError where they differ in more, UnsupportedError for a layout that is not composed of blocks,
    ResourceError where a worker dies.
    """
    with measuring(jobs, seconds=seconds) as measurement, progress() as display:
        task = display.add_task("measuring this machine", total=passes * len(measurement.questions()))
        for number in range(passes):
            display.update(task, description=f"measuring this machine, pass {number + 1} of {passes}")
            measurement.take_pass(lambda: display.advance(task))
    return measurement.table()


def expected_seconds(jobs: Sequence[Job], *, passes: int = PASSES, seconds: float = BLOCK_SECONDS) -> float:
    """About how long `measure` takes on a machine that has nothing else to do. Raises what it does of recipes."""
    measurement = _measurement(jobs, {}, seconds)
    starts = START_SECONDS * sum({setting.processes for setting in measurement.wanted})
    return starts + passes * sum(_expected(question) for _, _, question in measurement.questions())


@contextmanager
def measuring(jobs: Sequence[Job], *, seconds: float = BLOCK_SECONDS) -> Iterator["Measurement"]:
    """A measurement whose workers stay for as long as the block runs; raises what `measure` does."""
    workers: dict[int, Workers] = {}
    measurement = _measurement(jobs, workers, seconds)
    with ExitStack() as stack:
        for count in sorted({setting.processes for setting in measurement.wanted}):
            workers[count] = stack.enter_context(start_workers(count))
        yield measurement


def _measurement(jobs: Sequence[Job], workers: Mapping[int, Workers], seconds: float) -> "Measurement":
    model, cores = _same_width(jobs), usable_cores()
    wanted = list(dict.fromkeys(setting for job in jobs for setting in all_settings(job, cores)))
    pipelines = sorted({(job.layout.pipeline, job.layout.world) for job in jobs if job.layout.pipeline > 1})
    return Measurement(model, cores, wanted, pipelines, workers, seconds)


class Measurement:
    """Repetitions of every block, message and pipeline, by what they are; each pass adds to them."""

    def __init__(
        self,
        model: ModelConfig,
        cores: int,
        wanted: Sequence[Setting],
        pipelines: Sequence[tuple[int, int]],
        workers: Mapping[int, Workers],
        seconds: float,
    ) -> None:
        self.wanted = wanted
        self._model, self._cores, self._pipelines = model, cores, pipelines
        self._workers, self._seconds = workers, seconds
        self._times: dict[Key, Times] = {}
        self._load = os.getloadavg()[0]

    def take_pass(self, done: Callable[[], object] = lambda: None) -> None:
        """Ask the workers for everything once more; `done` is called after each question."""
        for key, processes, question in self.questions():
            answers = self._workers[processes].ask(question, processes)
            if key is not None:
                self._keep(key, answers)
            done()

    def questions(self) -> list[tuple[Key | None, int, Question]]:
        """Return the questions of a pass: the key of the answer (None if it is not kept), processes, question."""
        asked: list[tuple[Key | None, int, Question]] = []
        for processes in sorted({setting.processes for setting in self.wanted}):
            wanted = [setting for setting in self.wanted if setting.processes == processes]
            asked.append((None, processes, _block_question(self._model, wanted[0], DEPTHS[-1], WARM_SECONDS)))
            for setting in wanted:
                asked += self._block_questions(self._model, setting)
            if processes == 1:
                question = {"ask": "rates", "products": PRODUCTS, "copied_bytes": COPIED_BYTES}
                asked.append((("rates",), 1, {**question, "threads": self._cores, "seconds": MESSAGE_SECONDS}))
                continue
            common = {"threads": self._threads(processes), "seconds": MESSAGE_SECONDS}
            for group_size in _group_sizes(processes):
                question = {"ask": "messages", "group_size": group_size, "bytes": MESSAGE_BYTES}
                asked.append((("messages", group_size, processes), processes, {**question, **common}))
            pipelines = [stages for stages, count in self._pipelines if count == processes]
            for stages in pipelines:
                question = {"ask": "pipeline", "pipeline": stages, **common, "seconds": PIPELINE_SECONDS}
                asked.append((("pipeline", stages, processes), processes, question))
            if pipelines:
                asked += self._block_questions(TOY, self._toy(processes))
        return asked

    def table(self) -> BlockTable:
        """Combine the answers of all passes."""
        messages = [
            _message(name, key, times) for key, all_ in self._times.items() if key[0] == "messages"
            for name, times in all_.items()
        ]  # fmt: skip
        machine = {
            "cpu": cpu_name(),
            "cores": self._cores,
            "memory_bytes": total_memory_bytes(),
            "system": platform.platform(),
            "torch": torch.__version__,
            "load": [self._load, os.getloadavg()[0]],
        }
        return BlockTable(
            machine=machine,
            model=self._model,
            depths=DEPTHS,
            blocks=[self._block(self._model, setting) for setting in self.wanted],
            messages=messages,
            runners=[self._runner(stages, processes) for stages, processes in self._pipelines],
            rates=_rates(self._times.get(("rates",), {})),
        )

    def _threads(self, processes: int) -> int:
        return max(1, self._cores // processes)

    def _toy(self, processes: int) -> Setting:
        return Setting(
            tensor=1, data=1, zero=0, zero_shard=None, sequence_parallel=False, recompute="none", recompute_every=1,
            precision="fp32", micro_batch_size=1, threads=self._threads(processes), processes=processes,
        )  # fmt: skip

    def _keep(self, key: Key, answers: Sequence[Mapping[str, list[float]]]) -> None:
        """Add the repetitions of the slowest worker."""
        kept = self._times.setdefault(key, {})
        for name, times in _slowest(answers).items():
            kept.setdefault(name, []).extend(times)

    def _block_questions(self, model: ModelConfig, setting: Setting) -> Iterator[tuple[Key, int, Question]]:
        for depth in DEPTHS:
            question = _block_question(model, setting, depth, self._seconds)
            yield (model, setting, depth), setting.processes, question

    def _block(self, model: ModelConfig, setting: Setting) -> Block:
        both = [self._times[model, setting, depth] for depth in DEPTHS]
        pairs = {name: tuple(undisturbed(times[name]) for times in both) for name in ("forward", "backward", "update")}
        alone = {name: min(undisturbed(times[name]) for times in both) if name in both[0] else None
                 for name in ("read", "embed", "unembed")}  # fmt: skip
        passes = [[*map(sum, zip(times["forward"], times["backward"], strict=True))] for times in both]
        noise = max(map(quartile_spread, passes))
        return Block.model_validate({**setting.__dict__, **pairs, **alone, "spread": noise})

    def _runner(self, stages: int, processes: int) -> Runner:
        """The toy pipeline's micro-batch less its slowest stage's work, which is measured as any block."""
        whole = self._times["pipeline", stages, processes]
        each = (undisturbed(whole["many"]) - undisturbed(whole["few"])) / whole["micro_batches"][0]
        block = self._block(TOY, self._toy(processes))
        passes = [sum(pair) for pair in zip(block.forward, block.backward, strict=True)]
        layer = (passes[1] - passes[0]) / (DEPTHS[1] - DEPTHS[0])
        embedding = (block.embed or 0.0) + (block.unembed or 0.0)
        own = layer + max(embedding, passes[0] - layer - embedding)
        return Runner(pipeline=stages, processes=processes, seconds=max(0.0, each - own))


def _block_question(model: ModelConfig, setting: Setting, depth: int, seconds: float) -> dict[str, Any]:
    return {
        "ask": "block",
        "model": model.model_copy(update={"num_layers": depth}).model_dump(mode="json"),
        "parallel": setting.parallel.model_dump(mode="json"),
        "precision": setting.precision,
        "micro_batch_size": setting.micro_batch_size,
        "threads": setting.threads,
        "seconds": seconds,
    }


def _expected(question: Question) -> float:
    """About the seconds that an answer takes: how often the worker takes the question's own, and some to begin."""
    works = {"block": 1.6, "messages": 2 * len(MESSAGE_BYTES), "pipeline": 1.0, "rates": 2 * len(PRODUCTS) + 1}
    return BEGIN_SECONDS + float(question["seconds"]) * works[question["ask"]]


def _same_width(jobs: Iterable[Job]) -> ModelConfig:
    models = {job.model.model_copy(update={"num_layers": 1}).model_dump_json() for job in jobs}
    if len(models) != 1:
        raise RecipeError(
            f"a measurement is for models of one width, and these are {len(models)}.", mend="Measure them one by one."
        )
    return ModelConfig.model_validate_json(models.pop())


def _group_sizes(processes: int) -> list[int]:
    """2, 4, … that divide the processes, and all of them."""
    sizes = {2**power for power in range(1, processes.bit_length()) if processes % 2**power == 0}
    return sorted(sizes | {processes})


def _message(name: str, key: Key, times: list[float]) -> Message:
    collective, _, size = name.partition(" ")
    _, group_size, processes = key
    return Message.model_validate(
        {
            "collective": collective,
            "group_size": group_size,
            "processes": processes,
            "bytes": int(size),
            "seconds": undisturbed(times),
        }
    )


def _rates(times: Times) -> dict[str, float]:
    if not times:
        return {}
    rates = {
        f"{name} flops_per_second": 2 * m * k * n / undisturbed(times[name])
        for m, k, n in PRODUCTS
        for name in (f"fp32 {m}x{k}x{n}", f"bf16 {m}x{k}x{n}")
    }
    copied = COPIED_BYTES / undisturbed(times["copy"])
    return rates | {"copied_bytes_per_second": copied, "operation_seconds": undisturbed(times["add 1000"]) / 1000}


def _slowest(answers: Sequence[Mapping[str, list[float]]]) -> Times:
    """Return for each repetition the time until the last worker was done."""
    return {name: [max(each) for each in zip(*(a[name] for a in answers), strict=True)] for name in answers[0]}
