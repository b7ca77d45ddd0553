"""Samples read a step ahead are those of their step, and a reader's error is its step's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from megalith.parallel import MicroBatch
from megalith.training.ahead import Ahead
from megalith.training.data import Batch

CPU = torch.device("cpu")
STEPS = [Batch(step, 8 * step, 8, 0) for step in range(1, 6)]


class Reads:
    """Gives each step's number, and remembers who asked; the steps in `bad` cannot be read."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.by_thread, self.steps = bad, list[bool](), list[int]()

    def __call__(self, batch: Batch) -> list[MicroBatch]:
        self.by_thread.append(threading.current_thread() is not threading.main_thread())
        self.steps.append(batch.step)
        if batch.step in self.bad:
            raise OSError(f"step {batch.step} cannot be read")
        return [{"tokens": torch.tensor([batch.first_sample])}]


def ahead(read: Reads, *, threaded: bool) -> Ahead:
    """As on a GPU, but that nothing is pinned; or as on a CPU."""
    reader = Ahead(read, CPU)
    if threaded:
        reader._pool = ThreadPoolExecutor(1)
    return reader


def take_all(reader: Ahead, steps: list[Batch]) -> list[int]:
    following = [*steps[1:], None]
    return [int(reader.take(*pair)[0]["tokens"]) for pair in zip(steps, following, strict=True)]


@pytest.mark.parametrize("threaded", [False, True])
def test_each_step_is_read_once_in_order(threaded: bool) -> None:
    read = Reads()
    assert take_all(ahead(read, threaded=threaded), STEPS) == [8, 16, 24, 32, 40]
    assert read.steps == [1, 2, 3, 4, 5]
    assert read.by_thread == [False, *[threaded] * 4]


def test_an_error_comes_at_the_step_that_cannot_be_read() -> None:
    reader = ahead(Reads(3), threaded=True)
    reader.take(STEPS[0], STEPS[1])
    reader.take(STEPS[1], STEPS[2])
    with pytest.raises(OSError, match="step 3 cannot be read"):
        reader.take(STEPS[2], STEPS[3])


def test_a_run_that_goes_back_gets_the_samples_of_its_step() -> None:
    read = Reads()
    reader = ahead(read, threaded=True)
    reader.take(STEPS[3], STEPS[4])
    assert int(reader.take(STEPS[0], STEPS[1])[0]["tokens"]) == 8
    skipped = Batch(2, 80, 8, 0)  # the same step, of later samples
    assert int(reader.take(skipped, None)[0]["tokens"]) == 80
