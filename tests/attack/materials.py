"""The small corpus, the small recipe and the finished expeditions that the attack starts from."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.attack.command import Ended, run

RECIPE = """\
name: small
about: A whole expedition in seconds, to be attacked.
crawl:
  maximum_pages: 12
curate:
  validation_share: 0.08
  heuristics:
    maximum_duplicate_line_characters: 0.5
  task_items:
    passage_words: [15, 40]
    context_words: [20, 30]
    continuation_words: 10
tokenize:
  vocab_size: 512
model:
  vocab_size: 512
  sequence_length: 64
  num_layers: 2
  hidden_size: 32
  num_heads: 2
parallel:
  tensor: 1
  pipeline: 1
  data: 1
evaluate:
  shots: [0]
  items: 20
audit:
  hans_examples: 4
train:
  tokens: 20480
  precision: fp32
  global_batch_size: 8
  micro_batch_size: 4
  learning_rate: 3.0e-3
  validation_interval: 10
  checkpoint_interval: 5
"""
WORDS = [
    "the", "a", "of", "to", "and", "in", "is", "that", "it", "was", "for", "on", "are", "as", "with", "his", "they",
    "at", "be", "this", "from", "have", "or", "by", "one", "had", "not", "but", "what", "all", "were", "when", "we",
    "there", "can", "an", "your", "which", "their", "said", "if", "do", "will", "each", "about", "how", "up", "out",
    "them", "then", "she", "many", "some", "so", "these", "would", "other", "into", "has", "more", "her", "two",
    "like", "him", "see", "time", "could", "no", "make", "than", "first", "been", "its", "who", "now", "people",
    "my", "made", "over", "did", "down", "only", "way", "find", "use", "may", "water", "long", "little", "very",
    "after", "words", "called", "just", "where", "most", "know", "house", "river", "stone", "winter", "garden",
    "letter", "train", "morning", "bread", "island", "engine", "window", "market", "teacher", "music", "forest",
    "harbour", "paper", "question", "summer", "village", "mountain", "answer",
]  # fmt: skip
ARTIFACTS = ("curate-documents", "curate", "tokenize", "plan", "train", "evaluate", "audit")


def documents(dice: random.Random, count: int) -> list[dict[str, str]]:
    """English-looking documents, no two alike."""
    made = []
    for number in range(count):
        sentences = []
        for _ in range(dice.randint(12, 26)):
            words = " ".join(dice.choice(WORDS) for _ in range(dice.randint(6, 15)))
            sentences.append(words[0].upper() + words[1:] + ".")
        paragraphs = [" ".join(sentences[start : start + 4]) for start in range(0, len(sentences), 4)]
        made.append({"text": "\n\n".join(paragraphs), "url": f"https://example.org/{number}"})
    return made


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Materials:
    """The materials, made once: `corpus.jsonl`, `recipe.yaml`, the expedition `base`, and `other` of another seed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.corpus = home / "corpus.jsonl"
        self.recipe = home / "recipe.yaml"
        self.base = home / "base"
        self.other = home / "other"

    def make_inputs(self) -> None:
        """Write the corpus and the recipe."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.recipe.write_text(RECIPE)
        if not self.corpus.is_file():
            write_lines(self.corpus, documents(random.Random(1), 150))

    def make_expeditions(self) -> None:
        """Run both expeditions; they are taken as they stand if they are finished."""
        self.make_inputs()
        for directory, override in ((self.base, []), (self.other, ["seed=4321"])):
            if not (directory / "report.html").is_file():
                shutil.rmtree(directory, ignore_errors=True)
                self._demand(self.argv("run", directory, *override))
        if not (self.home / "crawled" / "crawl" / "manifest.json").is_file():
            self._demand(["crawl", str(self.recipe), "--output", str(self.home / "crawled")])

    def argv(self, verb: str, directory: Path, *more: str) -> list[str]:
        source = ["--source", str(self.corpus)] if verb not in ("report", "generate", "crawl") else []
        return [verb, str(self.recipe), *more, *source, "--output", str(directory)]

    def _demand(self, argv: list[str]) -> Ended:
        ended = run(argv, self.home, cpu_seconds=300, wall_seconds=1200)
        if ended.code:
            raise RuntimeError(f"megalith {' '.join(argv)} ended with {ended.code}: {ended.said[-3000:]}")
        return ended


def digests(directory: Path) -> dict[str, str]:
    """The digest of every finished artifact in an expedition."""
    return {
        path.parent.name: json.loads(path.read_text())["digest"]
        for path in sorted(directory.glob("*/manifest.json"))
        if not path.parent.name.startswith(".") and ".aside-" not in path.parent.name
    }
