"""Processes that encode parts: each asks for the next one when it has done one.

They are started anew, not forked (the tokenizer has threads), say what they have done a line at a time, and end with
the process that started them, however it ends.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from megalith.errors import MegalithError, ResourceError, error_from_json, error_to_json
from megalith.memory import oom_kills
from megalith.processes import die_with
from megalith.system_limits import limit_reached
from megalith.tokens.encoders import EncoderName, encoder
from megalith.tokens.parts import Part, encode_part, part_of
from megalith.tokens.tokenizer import load_tokenizer


def encode_parts(
    parts: Sequence[Part], folder: Path, name: EncoderName, workers: int, told: Callable[[Part], None]
) -> None:
    """Encode parts in the workspace at `folder`, whose tokenizer.json stands. Raises what a worker raised.

    Raises ResourceError when a worker dies; parts that are done stay.
    """
    waiting: SimpleQueue[Part] = SimpleQueue()
    for part in parts:
        waiting.put(part)
    started = [_start(folder, name) for _ in range(min(workers, len(parts)))]
    try:
        with ThreadPoolExecutor(len(started)) as threads:
            for ended in [threads.submit(_feed, process, waiting, told) for process in started]:
                ended.result()
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _start(folder: Path, name: EncoderName) -> subprocess.Popen[str]:
    program = "from megalith.tokens.workers import work; work()"
    words = [sys.executable, "-c", program, str(folder), name, str(os.getpid())]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _feed(process: subprocess.Popen[str], waiting: "SimpleQueue[Part]", told: Callable[[Part], None]) -> None:
    """Hand out parts to one worker until there is none left, or one has failed."""
    assert process.stdin is not None
    assert process.stdout is not None
    killed = oom_kills()
    while True:
        try:
            part = waiting.get_nowait()
        except Empty:
            return
        try:
            process.stdin.write(json.dumps(part.as_json()) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            _drain(waiting)
            raise ResourceError(
                f"a process that encodes died ({process.wait()}){', since memory ran out' * (oom_kills() > killed)}.",
                where=part.name,
                mend="Use fewer cores (taskset), or see what ends it; the same command goes on from here.",
            )
        said = json.loads(answer)
        if "kind" in said:
            _drain(waiting)
            raise error_from_json(said)
        told(part)


def _drain(waiting: "SimpleQueue[Part]") -> None:
    """So that the other workers end."""
    try:
        while True:
            waiting.get_nowait()
    except Empty:
        pass


def work() -> None:
    """Run one process; its arguments are the folder, the encoder, and the process that started it."""
    die_with(int(sys.argv[3]))
    folder = Path(sys.argv[1])
    name: EncoderName = "gigatoken" if sys.argv[2] == "gigatoken" else "tokenizers"
    tokenizer = load_tokenizer(folder)
    encode = encoder(name, tokenizer)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        said: dict[str, str | None] = {}
        try:
            encode_part(part_of(json.loads(line)), folder, encode, tokenizer.vocab_size)
        except MegalithError as error:
            said = error_to_json(error)
        except Exception as error:
            limit = limit_reached(error)
            if limit is None:
                raise
            said = error_to_json(limit)
        answers.write(json.dumps(said) + "\n")
        answers.flush()
