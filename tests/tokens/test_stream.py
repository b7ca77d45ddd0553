"""A mapped stream: what is about to be read is fetched at once, and the kernel is asked for nothing else."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megalith.tokens import TrainingWindows
from megalith.tokens import stream as room
from megalith.tokens.stream import map_file, will_read

PAGE = mmap.PAGESIZE


class Mapped(mmap.mmap):
    """A map that remembers what it was advised of."""

    def __new__(cls, *args: Any, **named: Any) -> "Mapped":
        made = super().__new__(cls, *args, **named)
        made.asked = []
        return made

    def madvise(self, option: int, *place: int) -> None:
        self.asked.append((option, *place))
        super().madvise(option, *place)


@pytest.fixture
def bytes_of_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(room.mmap, "mmap", Mapped)
    path = tmp_path / "tokens.bin"
    path.write_bytes(np.arange(8 * PAGE, dtype=np.uint16).tobytes())
    return map_file(path)


def test_whole_pages_of_what_is_read_are_asked_for(bytes_of_file: Any) -> None:
    tokens = bytes_of_file.view(np.uint16)[100:]
    will_read(tokens[PAGE : PAGE + 1000])
    asked = bytes_of_file.base.obj.asked
    first = 2 * (100 + PAGE)
    assert asked[0] == (mmap.MADV_RANDOM,)
    assert asked[1:] == [(mmap.MADV_WILLNEED, first // PAGE * PAGE, first + 2000 - first // PAGE * PAGE)]


def test_a_batch_asks_for_all_of_its_windows_before_it_reads_one(bytes_of_file: Any) -> None:
    windows = TrainingWindows(bytes_of_file.view(np.uint16), 64, 1)
    inputs, targets = windows.batch(3, 5)
    assert len(bytes_of_file.base.obj.asked) == 1 + 5
    assert np.array_equal(inputs[:, 1:], targets[:, :-1])


def test_of_an_array_in_memory_there_is_nothing_to_ask() -> None:
    will_read(np.arange(10))
    will_read(np.arange(10)[3:3])
