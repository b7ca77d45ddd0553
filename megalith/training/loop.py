"""The training loop: a step at a time from the newest checkpoint to the last token."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from megalith.arithmetic import flops_per_token
from megalith.console import note
from megalith.errors import ResourceError
from megalith.parallel import Mesh
from megalith.processes import keep_freed_memory
from megalith.tokens import open_split
from megalith.topology import this_machine
from megalith.training.data import Batch, batches
from megalith.training.device import is_compiled, is_deterministic
from megalith.training.going_back import go_back
from megalith.training.hangs import GiveUp, Watch
from megalith.training.live import live_tasks, timed
from megalith.training.monitor import Monitor, Timing, Yardsticks, watch
from megalith.training.profiling import peak_memory_by_rank, reserved_memory_bytes, trace_step
from megalith.training.replicas import ReplicaCheck
from megalith.training.run_state import Run, begin, save
from megalith.training.step import read_ahead, take_step
from megalith.training.task import Stopped, TrainTask
from megalith.training.timeouts import FIRST_STEP_SECONDS, later_timeout, wait_for
from megalith.training.validation import unigram_entropy, validation_loss

MOST_FAILED_SAVES = 2  # in a row: then a run would lose too much


def run(
    task: TrainTask, ranks: Mesh, asked_to_stop: Callable[[], bool], give_up: GiveUp | None = None
) -> dict[str, Any]:
    """Train to the end and return the measurements.

    `asked_to_stop` is asked once in each step; `give_up` ends the process where ranks hang. Raises Stopped when any
    rank's said yes and the state has been saved, MegalithError when the run diverges.
    """
    keep_freed_memory()
    watch = Watch(task, ranks, task.recipe.train.timeout_seconds or FIRST_STEP_SECONDS, give_up)
    try:
        return _run(task, ranks, asked_to_stop, watch)
    finally:
        watch.close()


def _run(task: TrainTask, ranks: Mesh, asked_to_stop: Callable[[], bool], watch: Watch) -> dict[str, Any]:
    state = begin(task, ranks)
    state.asked_to_stop, state.ahead = asked_to_stop, read_ahead(state)
    first = state.progress.step + 1
    watch.follow(state)
    wait_for(state.ranks, watch, watch.timeout)
    check = ReplicaCheck()
    while not _train(state, check, first, watch):
        pass  # it has gone back
    whole = _score(state, state.held_out_count)
    state.saver.wait()
    memory, here = peak_memory_by_rank(ranks), this_machine()
    return {
        "steps": state.progress.step,
        "tokens": state.progress.tokens,
        "validation_loss": whole,
        "unigram_entropy": unigram_entropy(open_split(task.tokens, "validation").stream, task.recipe.model.vocab_size),
        "skipped_steps": state.progress.skipped_steps,
        "slow_ranks": {str(rank): times for rank, times in state.slow.found.items()},
        "resumed_at_step": first - 1 or None,
        "peak_memory_bytes": sum(memory),
        "most_memory_bytes_of_a_rank": max(memory),
        "deterministic": is_deterministic(task.recipe, ranks.device),
        "compiled": is_compiled(task.recipe, ranks.device),
        "machine": {"accelerator": here.accelerator, "count": here.accelerators_per_node},
    }


def _train(run: Run, check: ReplicaCheck, first: int, watch: Watch) -> bool:
    """Take the steps that are left; False where the run has gone back, and there are more."""
    plan, train, ranks = _remaining(run), run.train, run.ranks
    live = live_tasks(run)
    total = plan[-1].step if plan else run.progress.step
    with _monitor(run.task, ranks, total, run.progress.step) as monitor:
        for batch in plan:
            record, timing = _timed_step(run, batch)
            if monitor:
                monitor.step(record, timing)
            if batch.step == first:
                wait_for(ranks, watch, train.timeout_seconds or later_timeout(timing.seconds))
            last = batch.step == total
            pace = ranks.sum(*run.pace.by_rank()) if run.pace else []
            _name_slow_ranks(run, run.slow.add(pace), monitor)
            due = batch.step % train.checkpoint_interval == 0 or batch.step in train.milestones
            saves = bool(last or run.stop or due)
            if check.is_due(run, saves=saves):
                run.back = check.compare(run) or run.back
            if run.back is not None and go_back(run, run.back):
                return False
            if last or batch.step % train.validation_interval == 0:
                _validate(run, monitor)
            if live is not None and (last or batch.step % run.task.recipe.evaluate.every == 0):
                record, seconds = timed(live, run)
                run.progress.evaluations.append(record)
                if monitor:
                    monitor.evaluation(record, seconds)
            if saves:
                _save(run, monitor, keep=1 if last else train.checkpoints_kept)
            if run.stop and not last:
                run.saver.wait()
                if run.mirroring:
                    run.mirroring.wait()
                raise Stopped
        if monitor:
            monitor.describe("Validating")
    return True


def _remaining(run: Run) -> list[Batch]:
    done = run.progress
    length = run.task.recipe.model.sequence_length
    return list(batches(run.train, length, step=done.step, samples=done.samples, tokens=done.tokens))


def _timed_step(run: Run, batch: Batch) -> tuple[dict[str, Any], Timing]:
    is_traced = batch.step in run.train.trace_steps
    run.clock.take()
    with trace_step(run.task.logs, batch.step, run.ranks, run.clock) if is_traced else nullcontext():
        start = time.perf_counter()
        record = take_step(run, batch)
        seconds = time.perf_counter() - start
    timing = Timing(
        tokens=batch.sequences * run.task.recipe.model.sequence_length,
        is_full=batch.sequences == run.train.global_batch_size,
        seconds=seconds,
        phases=run.clock.take(),
        is_traced=is_traced,
    )
    return record, timing


def _monitor(task: TrainTask, ranks: Mesh, total_steps: int, step: int) -> AbstractContextManager[Monitor | None]:
    if not ranks.is_rank_zero:
        return nullcontext()
    yardsticks = Yardsticks(flops_per_token(task.recipe.model), task.peak_flops_per_second, task.predicted)
    return watch(task.logs, yardsticks, total_steps=total_steps, step=step)


def _name_slow_ranks(run: Run, found: Mapping[int, float], monitor: Monitor | None) -> None:
    if monitor:
        for rank, times in found.items():
            note(
                f"step {run.progress.step:,}: rank {rank} computes {times:.1f} times as long as the others, which wait "
                "for it. Look after its machine."
            )
            monitor.slow_rank(run.progress.step, rank, times)


def _validate(run: Run, monitor: Monitor | None) -> None:
    start = time.perf_counter()
    loss = _score(run, run.train.validation_sequences)
    record = {"step": run.progress.step, "tokens": run.progress.tokens, "loss": loss}
    run.progress.validation.append(record)
    memory = peak_memory_by_rank(run.ranks)
    if monitor:
        monitor.validation(record, time.perf_counter() - start)
        monitor.memory(run.progress.step, memory, reserved_memory_bytes())


def _save(run: Run, monitor: Monitor | None, keep: int) -> None:
    start = time.perf_counter()
    try:
        save(run, keep)
        run.failed_saves = 0
    except ResourceError as error:  # of the checkpoint before, which was written meanwhile
        run.failed_saves += 1
        if run.failed_saves == MOST_FAILED_SAVES:
            raise
        if run.ranks.is_rank_zero:
            note(f"{error} Training goes on, and the checkpoint of step {run.progress.step:,} is tried.")
        save(run, keep)
    if monitor:
        monitor.checkpoint(run.progress.step, time.perf_counter() - start)


def _score(run: Run, count: int) -> float:
    return validation_loss(run.model, run.held_out, run.held_out_count, count, run.micro_batch_size)
