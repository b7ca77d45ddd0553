"""Generation on this machine's CPU: Megalith beside transformers.generate, with the same weights, threads and texts.

Both load one Hugging Face directory (Megalith by `megalith import`), each in a process of its own, and write 64 tokens
after each prompt, greedily, at batch 1 and 8; a prompt of 512 tokens is read by itself. They take turns for several
rounds, and the least time of each counts. Printed are tokens a second without the time of reading the prompts, their
ratio, and on how many texts both agree. Writes `results/generate.json`.

    python benchmarks/generate.py HF_DIRECTORY [--rounds 3] [--threads N] [--tokens 64] [--clock wall|cpu]
                                  [--precision fp32|bf16]

Close other programs first: the load beforehand is recorded. Where that cannot be, `--clock cpu --threads 1` counts the
seconds of the processor. Peer: pip install --no-deps transformers (and huggingface_hub, safetensors, tokenizers, regex,
packaging, tqdm).
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, write_results

import megalith
from megalith import kernels
from megalith.arithmetic import kv_cache_bytes
from megalith.inference import Engine, LanguageModel, Sampling, at_precision
from megalith.processes import keep_freed_memory

os.environ["HF_HUB_OFFLINE"] = "1"

PROMPTS = (
    "The history of the city begins with a small settlement on the river, where traders met",
    "Photosynthesis is the process by which",
    "Once upon a time, in a village far from the sea, there lived a girl who could",
    "A list of the planets of the solar system, with a sentence about each of them:",
    "To bake bread at home, one needs",
    "The difference between a compiler and an interpreter is that a compiler",
    "During the winter of that year the army marched through the mountains, and the soldiers",
    "Economists explain the price of a good by",
)
PREFILL = 512
BATCHES = (1, 8)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Answer = list[list[int]]


def main() -> None:
    said = parse()
    load = os.getloadavg()[0]
    prompts = prompts_of(said.directory)
    contestants = {kind.name: Contestant(kind, said) for kind in (Ours, Theirs)}
    figures: dict[str, Any] = {
        "machine": machine(),
        "load_before": load,
        "threads": said.threads,
        "clock": said.clock,
        "precision": said.precision,
        "new_tokens": said.tokens,
    }
    for batch in BATCHES:
        least: dict[str, list[float]] = {name: [float("inf")] * 2 for name in contestants}
        texts: dict[str, Answer] = {}
        for _ in range(said.rounds):
            for name, contestant in contestants.items():
                for place, tokens in enumerate((1, said.tokens + 1)):
                    seconds, texts[name] = contestant.timed(prompts[:batch], tokens)
                    least[name][place] = min(least[name][place], seconds)
        rates = {name: batch * said.tokens / (whole - first) for name, (first, whole) in least.items()}
        same = sum(a == b for a, b in zip(texts["megalith"], texts["transformers"], strict=True))
        report(f"batch {batch}", "tokens/s", rates, rates["megalith"] / rates["transformers"])
        print(f"  the same {same} of {batch} texts")
        figures[f"batch {batch}"] = {"tokens_per_second": rates, "same_texts": same}
    long = [([token for prompt in prompts for token in prompt] * PREFILL)[:PREFILL]]
    tries = [{name: each.timed(long, 1)[0] for name, each in contestants.items()} for _ in range(said.rounds)]
    seconds = {name: min(each[name] for each in tries) for name in contestants}
    report(f"prompt of {PREFILL}", "seconds", seconds, seconds["transformers"] / seconds["megalith"])
    figures["prefill"] = {"tokens": PREFILL, "seconds": seconds}
    write_results(RESULTS, "generate", figures)
    for each in contestants.values():
        each.end()


class Ours:
    """Megalith as its verbs generate."""

    name = "megalith"

    def __init__(self, directory: Path, precision: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            megalith.import_model(directory, output=Path(folder) / "model")
            lm = megalith.load_model(Path(folder) / "model")
        kernels.use(kernels.choose(torch.get_num_threads()))
        keep_freed_memory()
        self.lm: LanguageModel = at_precision(lm, DTYPES[precision])
        self.lm.tokenizer.ends = frozenset()  # every text has all its tokens, as the peer's
        self._engines = {batch: self._engine(batch) for batch in BATCHES}

    def _engine(self, batch: int) -> Engine:
        return Engine(self.lm, kv_bytes=batch * kv_cache_bytes(self.lm.config, 1024), max_batch=batch)

    def __call__(self, prompts: Sequence[Sequence[int]], tokens: int) -> Answer:
        engine = self._engines[len(prompts)]
        made = [engine.submit(prompt, Sampling(max_tokens=tokens, temperature=0)) for prompt in prompts]
        while engine.running or engine.waiting:
            engine.step()
        return [sequence.tokens for sequence in made]


class Theirs:
    """transformers.generate with its cache and its default attention, prompts padded on the left."""

    name = "transformers"

    def __init__(self, directory: Path, precision: str) -> None:
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=DTYPES[precision]).eval()
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0

    def __call__(self, prompts: Sequence[Sequence[int]], tokens: int) -> Answer:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            made = self._model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False)
        answer: Answer = made[:, longest:].tolist()
        return answer


class Contestant:
    """One of them in a process of its own."""

    def __init__(self, kind: type, said: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        context.Process(target=work, args=(kind, said, other), daemon=True).start()
        self._pipe.recv()

    def timed(self, prompts: Answer, tokens: int) -> tuple[float, Answer]:
        """Seconds of one call, and what it wrote."""
        self._pipe.send((prompts, tokens))
        answer: tuple[float, Answer] = self._pipe.recv()
        return answer

    def end(self) -> None:
        self._pipe.send(None)


def work(kind: type, said: argparse.Namespace, pipe: Any) -> None:
    torch.set_num_threads(said.threads)
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[said.clock]
    contestant = kind(said.directory, said.precision)
    pipe.send(None)
    while (asked := pipe.recv()) is not None:
        prompts, tokens = asked
        before = clock()
        answer = contestant(prompts, tokens)
        pipe.send((clock() - before, answer))


def prompts_of(directory: Path) -> Answer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in PROMPTS]


def report(title: str, unit: str, figures: dict[str, float], ratio: float) -> None:
    shown = ", ".join(f"{name} {figure:.3g}" for name, figure in figures.items())
    print(f"{title}: {shown} {unit}: {ratio:.2f} times as fast", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
