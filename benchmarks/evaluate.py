"""Scores on this machine's CPU: Megalith beside lm-evaluation-harness's own model, with the same weights and requests.

Both load one Hugging Face directory (Megalith by `megalith import`), each in a process of its own, and score the same
documents in lm-eval's wordings: BoolQ, MMLU with five shots (of four subjects), LAMBADA, OpenBookQA, and the first
pages of WikiText-2 as whole texts. They take turns for several rounds, and the least time of each counts; loading does
not. Printed are their ratio, the largest difference of a log-probability in nats, and on how many documents both
choose the same; `invariant` is Megalith with the same bits at any batch. The start is `megalith score` with one
request, from the command to its end. Writes `results/evaluate.json`.

    python benchmarks/evaluate.py HF_DIRECTORY DATA [--documents 40] [--rounds 2] [--threads N] [--clock wall|cpu]
                                  [--batch-size 8]

DATA has the official files in folders, as `evaluate.data`. Close other programs first: the load beforehand is recorded.
Where that cannot be, `--clock cpu --threads 1` counts the seconds of the processor. Peer: pip install lm_eval[hf]
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, write_results

import megalith
from megalith.evaluation.document import Document
from megalith.evaluation.shots import ShotPlan, ShotPool, choose_shots, with_shots
from megalith.evaluation.tasks import TASKS
from megalith.inference import LanguageModel, Request, load_prepared, rolling, score

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

SHOTS = {"boolq": 0, "mmlu": 5, "lambada": 0, "openbookqa": 0}
WANTED = {"boolq": 2, "mmlu": 5, "lambada": 2}
"""How many times as fast as lm-eval Megalith should be."""
SUBJECTS = 4
PAGE = 6000
PAGES = 2

Asked = list[list[tuple[str, str]]]
"""The contexts and continuations of each document."""
Scores = list[list[float]]


def main() -> None:
    said = parse()
    figures: dict[str, Any] = {
        "machine": machine(),
        "load_before": os.getloadavg()[0],
        **{name: getattr(said, name) for name in ("threads", "clock", "documents", "batch_size")},
    }
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        megalith.import_model(said.directory, output=model)
        figures["start"] = start(model, Path(folder))
        print(f"start to first score: {figures['start']['wall']:.1f} s ({figures['start']['cpu']:.1f} s of processor)")
        contestants = {
            "megalith": Contestant(Ours, model, said),
            "invariant": Contestant(Invariant, model, said),
            "lm_eval": Contestant(Theirs, said.directory, said),
        }
        exact = Contestant(Exact, said.directory, said)
        for name, shots in SHOTS.items():
            asked = [[(one.context, one.continuation) for one in document.choices] for document in
                     documents(name, shots, said.data, said.documents)]  # fmt: skip
            figures[name] = {"shots": shots, **compare(name, "score", asked, contestants, said.rounds)}
        texts = pages(said.data)
        figures["wikitext2"] = compare(
            "wikitext2", "roll", texts, contestants, said.rounds, exact.timed("roll", texts)[1]
        )
        write_results(RESULTS, "evaluate", figures)
        for each in (*contestants.values(), exact):
            each.end()


def compare(
    name: str,
    what: str,
    asked: Any,
    contestants: "dict[str, Contestant]",
    rounds: int,
    oracle: Scores | None = None,
) -> dict[str, Any]:
    """The seconds of each, and how far our scores are from lm-eval's, or from an `oracle`."""
    seconds = dict.fromkeys(contestants, float("inf"))
    found: dict[str, Scores] = {}
    for _ in range(rounds):
        for who, each in contestants.items():
            spent, found[who] = each.timed(what, asked)
            seconds[who] = min(seconds[who], spent)
    pairs = list(zip(found["megalith"], oracle or found["lm_eval"], strict=True))
    apart = max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))
    same = sum(ours.index(max(ours)) == theirs.index(max(theirs)) for ours, theirs in pairs)
    ratio = seconds["lm_eval"] / seconds["megalith"]
    cost = seconds["invariant"] / seconds["megalith"]
    shown = ", ".join(f"{who} {spent:.3g}" for who, spent in seconds.items())
    wanted = f" ({WANTED[name]} wanted)" if name in WANTED else ""
    print(f"{name}: {shown} s: {ratio:.2f} times as fast{wanted}; invariant takes {cost:.2f} times as long")
    print(f"  largest difference {apart:.1e} nats, the same choice in {same} of {len(pairs)}", flush=True)
    return {
        "documents": len(asked), "seconds": seconds, "ratio": ratio, "largest_difference_nats": apart,
        "same_choice": same, "cost_of_invariance": cost,
    }  # fmt: skip


def documents(name: str, shots: int, data: Path, count: int) -> list[Document]:
    """The first documents of a task, of MMLU those of its first subjects, with their shots in front."""
    task = TASKS[name]
    found = task.read(data, "lm_eval")
    if name == "mmlu":
        subjects = [list(own) for _, own in groupby(found, key=lambda one: one.fields["subject"])][:SUBJECTS]
        found = [one for own in subjects for one in own[: count // SUBJECTS]]
    if not shots:
        return found[:count]
    pool = ShotPool(task.pool(data, "lm_eval"))
    plan = ShotPlan(shots, source=(task.shots_like, "same"), first=task.first_shots)
    return [with_shots(one, choose_shots(one, pool, plan), task.separator) for one in found]


def pages(data: Path) -> list[str]:
    """The first characters of WikiText-2's test file."""
    text = TASKS["wikitext2"].paths(data)[0].read_text()
    return [text[place * PAGE : (place + 1) * PAGE] for place in range(PAGES)]


def start(model: Path, folder: Path) -> dict[str, float]:
    """Seconds of one small run of the command, from its start to its end."""
    requests, before = folder / "requests.jsonl", resource.getrusage(resource.RUSAGE_CHILDREN)
    requests.write_text(json.dumps({"id": 0, "context": "The capital of France is", "choices": [" Paris", " Rome"]}))
    begun = time.perf_counter()
    command = [sys.executable, "-m", "megalith", "score", str(model), str(requests), "-o", str(folder / "scores.jsonl")]
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - begun, "cpu": cpu}


class Ours:
    """Megalith as its verbs score."""

    invariant = False

    def __init__(self, directory: Path, said: argparse.Namespace) -> None:
        self.lm: LanguageModel = load_prepared(directory)

    def score(self, asked: Asked) -> Scores:
        requests = []
        for own in asked:
            contexts = [context for context, _ in own]
            assert len(set(contexts)) == 1
            requests.append(Request(contexts[0], tuple(continuation for _, continuation in own)))
        found = score(self.lm, requests, 4096, boundary="lm_eval", batch_invariant=self.invariant)
        return [[one.log_probability for one in own] for own in found]

    def roll(self, texts: Sequence[str]) -> Scores:
        limit = self.lm.config.sequence_length
        return [[-one.nats] for one in rolling(self.lm, texts, 4096, limit, batch_invariant=self.invariant)]


class Invariant(Ours):
    """The same, whatever is scored together."""

    invariant = True


class Theirs:
    """lm-eval's model `hf` in fp32."""

    softmax_dtype: str | None = None

    def __init__(self, directory: Path, said: argparse.Namespace) -> None:
        from lm_eval.models.huggingface import HFLM

        self._model = HFLM(
            pretrained=str(directory),
            device="cpu",
            dtype="float32",
            batch_size=said.batch_size,
            softmax_dtype=self.softmax_dtype,
        )

    def score(self, asked: Asked) -> Scores:
        flat = self._model.loglikelihood(self._instances("loglikelihood", [pair for own in asked for pair in own]))
        found = iter(flat)
        return [[next(found)[0] for _ in own] for own in asked]

    def roll(self, texts: Sequence[str]) -> Scores:
        found = self._model.loglikelihood_rolling(self._instances("loglikelihood_rolling", [(text,) for text in texts]))
        return [[one] for one in found]

    def _instances(self, kind: str, arguments: Sequence[tuple[str, ...]]) -> list[Any]:
        from lm_eval.api.instance import Instance

        return [Instance(request_type=kind, doc={}, arguments=own, idx=n) for n, own in enumerate(arguments)]


class Exact(Theirs):
    """The same with log-softmax in float64: in fp32 it is 1e-5 nats off a token, which a long text adds up."""

    softmax_dtype = "float64"


class Contestant:
    """One of them in a process of its own."""

    def __init__(self, kind: Callable[..., Any], directory: Path, said: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        context.Process(target=work, args=(kind, directory, said, other), daemon=True).start()
        self._pipe.recv()

    def timed(self, what: str, asked: Any) -> tuple[float, Scores]:
        """Seconds of one call, and its scores."""
        self._pipe.send((what, asked))
        answer: tuple[float, Scores] = self._pipe.recv()
        return answer

    def end(self) -> None:
        self._pipe.send(None)


def work(kind: Callable[..., Any], directory: Path, said: argparse.Namespace, pipe: Any) -> None:
    torch.set_num_threads(said.threads)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[said.clock]
    contestant = kind(directory, said)
    pipe.send(None)
    while (task := pipe.recv()) is not None:
        what, asked = task
        before = clock()
        answer = getattr(contestant, what)(asked)
        pipe.send((clock() - before, answer))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--batch-size", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
