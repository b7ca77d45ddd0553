"""A run that is killed at any moment goes on at the partition it had reached, and ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megalith.curation import curate, engine, merge, partition
from megalith.curation import runs as runs_module
from megalith.curation.corpus import read_units
from megalith.curation.reading.document import Document, Part
from megalith.curation.reading.how import How
from megalith.recipe import Recipe, load_recipe
from tests.corpus import docstrings

SETTINGS = ["curate.validation_share=0.2", "curate.task_items.most=30", "curate.heuristics.minimum_stop_words=1"]
UNIT_BYTES = 20_000
PROGRAM = f"""
import sys, pathlib
from megalith.curation import curate, engine
from megalith.curation.corpus import read_units
from megalith.recipe import load_recipe
read_units.FEWEST_BYTES = {UNIT_BYTES}
engine.WORTH_BYTES = 1
curate(load_recipe("quickstart", {SETTINGS})[0], pathlib.Path(sys.argv[1]), [pathlib.Path(sys.argv[2])])
"""
SECONDS = 180


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "docs.jsonl"
    prose = [text for text in docstrings() if 1500 < len(text) < 30_000][:60]
    path.write_text("".join(json.dumps({"text": text, "url": f"u{n}"}) + "\n" for n, text in enumerate(prose)))
    return path


@pytest.fixture(autouse=True)
def many_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", UNIT_BYTES)
    monkeypatch.setattr(engine, "_cores", lambda: 1)


def _recipe() -> Recipe:
    return load_recipe("quickstart", SETTINGS)[0]


def _kill_when(there: Path, pattern: str, count: int, place: Path, source: Path) -> list[Path]:
    """Start a run, kill it and all its workers when so many files stand; returns those that did."""
    command = [sys.executable, "-c", PROGRAM, str(place), str(source)]
    process = subprocess.Popen(
        command, start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    deadline = time.monotonic() + SECONDS
    while len(found := list(there.glob(pattern))) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return found


def test_a_run_killed_while_it_reads_takes_up_the_units_that_are_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(_recipe(), tmp_path / "whole", [source])
    marks = tmp_path / ".corpus-documents.partial" / "logs" / "units"
    stood = {int(mark.stem) for mark in _kill_when(marks, "[0-9]*.json", 3, tmp_path / "corpus", source)}
    read: list[Part] = []
    as_it_is = partition.read_documents

    def watched(path: Path, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
        read.append(part)
        return as_it_is(path, counts, part, how)

    monkeypatch.setattr(partition, "read_documents", watched)
    resumed = curate(_recipe(), tmp_path / "corpus", [source])
    of_unit = json.loads((tmp_path / "corpus-documents" / "units.json").read_text())["units"]
    finished = {tuple(of_unit[number]["pieces"][0][1]) for number in stood}
    assert len(of_unit) > 10
    assert 0 < len(read) <= len(of_unit) - len(stood) and not finished & set(read)
    assert resumed.digest == whole.digest


def test_a_run_killed_while_it_writes_does_not_write_again_what_stands(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = curate(_recipe(), tmp_path / "whole", [source])
    runs = tmp_path / ".corpus.partial" / "work" / "runs"
    stood = {int(mark.stem) for mark in _kill_when(runs, "[0-9]*.json", 2, tmp_path / "corpus", source)}
    cut: list[int] = []
    as_it_is = runs_module._Run

    def watched(folder: Path, place: int, buckets: int) -> Any:
        cut.append(place)
        return as_it_is(folder, place, buckets)

    monkeypatch.setattr(runs_module, "_Run", watched)
    resumed = curate(_recipe(), tmp_path / "corpus", [source])
    assert not stood & set(cut)
    assert resumed.digest == whole.digest
    assert not (resumed.path / "work").exists()


def test_more_runs_than_may_be_open_at_once_are_joined_first(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = curate(_recipe(), tmp_path / "a" / "curate", [source])
    joined = []
    monkeypatch.setattr(merge, "MOST_OPEN", 2)
    monkeypatch.setattr(
        merge, "_join", lambda files, *rest, join=merge._join: joined.append(files) or join(files, *rest)
    )
    again = curate(_recipe(), tmp_path / "b" / "curate", [source])
    assert len(joined) > 4 and all(len(files) <= 2 for files in joined)
    assert again.digest == made.digest
