"""Memory does not grow with the corpus: partitions are worked on one by one, and only small columns are held of all."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

MEGABYTE = 10**6


@pytest.mark.slow
def test_five_times_the_text_takes_hardly_more_memory(tmp_path: Path) -> None:
    peaks = []
    for number, megabytes in enumerate((40, 200)):
        source = _write(tmp_path / f"in{number}", megabytes)
        peaks.append(_peak(tmp_path / f"out{number}", source))
    assert peaks[0] < 1500 * MEGABYTE
    assert peaks[1] - peaks[0] < 150 * MEGABYTE


def _write(folder: Path, megabytes: int) -> Path:
    """Documents of 4 KB of English-looking lines, none like another."""
    folder.mkdir()
    draws = np.random.default_rng(megabytes)
    stops = ["the", "be", "to", "of", "and", "that", "have", "with"]
    letters = np.array(list("etaoinshrdlu"))
    words = np.array(stops * 40 + ["".join(draws.choice(letters, draws.integers(3, 10))) for _ in range(4000)])
    for part in range(megabytes // 5):
        with (folder / f"{part:03d}.jsonl").open("w") as file:
            for document in range(1250):
                lines = draws.choice(words, (50, 14))
                text = "\n".join(f"{' '.join(line)}." for line in lines)
                file.write(json.dumps({"url": f"http://host{part}/{document}", "text": text}) + "\n")
    return folder


def _peak(output: Path, source: Path) -> int:
    """The most that the command and its processes held at once, shared pages counted once."""
    options = ["curate.languages=[]", "curate.heuristics.preset=mt-nlg", "--source", str(source)]
    command = [sys.executable, "-m", "megalith", "curate", "quickstart", *options, "--output", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    root, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        peak = max(peak, sum(map(_held, [root, *root.children(recursive=True)])))
        time.sleep(0.2)
    assert process.stderr is not None
    assert process.returncode == 0, process.stderr.read()
    return peak


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0  # it has ended meanwhile
