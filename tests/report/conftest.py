"""A finished expedition made by hand, as the stages leave it: plausible figures, unpleasant texts."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from megalith.recipe import load_recipe

HOSTILE = (
    '<script>alert("x")</script> </blockquote><img src=https://example.org/x.png onerror=alert(1)> & '
    "\x00\x1b[31m\u202egnp.exe"
)
STEPS: tuple[tuple[str, int, int, int, int, dict[str, int]], ...] = (
    ("read", 1600, 1599, 118_400_000, 118_400_000, {}),
    ("extract", 1599, 1583, 118_400_000, 21_300_000, {"no text": 16}),
    ("language", 1583, 1541, 21_300_000, 20_900_000, {"not in the languages": 31, "no language told": 11}),
    (
        "heuristics",
        1541,
        1102,
        20_900_000,
        17_400_000,
        {"minimum_characters": 285, "stop_words": 118, "mean_word_length": 36},
    ),
    ("exact", 1102, 1087, 17_400_000, 17_100_000, {"same text": 15}),
    ("minhash", 1087, 861, 17_100_000, 9_800_000, {"near duplicate": 226}),
    ("held_out", 861, 861, 9_800_000, 9_800_000, {}),
    ("decontaminate", 861, 866, 9_800_000, 9_712_000, {"more than 10 pieces": 3}),
)


def make_expedition() -> dict[str, Any]:
    """Return the content of `expedition.json`."""
    recipe, _ = load_recipe(
        "quickstart",
        ("model.num_layers=4", "model.hidden_size=160", "model.num_heads=5", "train.tokens=2244608", "parallel.data=2"),
    )
    chance = random.Random(1)
    rows = [
        {"occupation": f"occupation {index}", "log_odds_ratio": round(chance.gauss(-0.31, 0.5), 4)}
        for index in range(58)
    ]
    rows[3]["occupation"], rows[7]["occupation"] = "nurse", "blacksmith <b>"
    return {
        "megalith": "0.1.0",
        "name": recipe.name,
        "about": recipe.about,
        "seed": recipe.seed,
        "recipe": recipe.model_dump(mode="json"),
        "sources": [],
        "crawl": {
            "pages": 1600,
            "bytes": 118_400_000,
            "skipped": {"too long": 12, "import failed": 41},
            "modules_seen": 1653,
            "seconds": 61.2,
        },
        "curation": {
            "documents_in": 1599,
            "documents_out": 866,
            "bytes_in": 21_300_000,
            "bytes_out": 9_712_000,
            "html_bytes_in": 118_400_000,
            "read": {"records": 1600, "truncated": 0, "damaged": 1, "empty": 16},
            "steps": [
                {
                    "name": name,
                    "documents_in": before,
                    "documents_out": after,
                    "bytes_in": bytes_in,
                    "bytes_out": bytes_out,
                    "dropped": dropped,
                    "seconds": seconds,
                }
                for (name, before, after, bytes_in, bytes_out, dropped), seconds in zip(
                    STEPS, (2.2, 7.3, 2.4, 6.1, 0.2, 9.8, 0.4, 1.4), strict=True
                )
            ],
            "validation_documents": 44,
            "training_documents": 822,
            "decontamination": {
                "tasks": {"last_word": 200, "continuation": 200},
                "documents_trimmed": 18,
                "documents_split": 6,
                "documents_dropped": 3,
                "matches": 71,
            },
            "task_items": {"last_word": 200, "continuation": 200},
        },
        "tokens": {
            "train": 2_719_404,
            "validation": 148_203,
            "tokens": {"train": 2_719_404, "validation": 148_203},
            "documents": {"train": 822, "validation": 44},
            "bytes": {"train": 9_205_000, "validation": 507_000},
            "vocab_size": 4096,
            "bytes_per_token": 3.385,
        },
        "plan": _plan(),
        "train": {
            "steps": 548,
            "tokens": 2_244_608,
            "tokens_per_second": 11_890.0,
            "step_seconds": 0.341,
            "seconds": 196.4,
            "mfu": 0.487,
            "flops_per_second": 1.07e11,
            "peak_flops_per_second": 2.2e11,
            "train_loss": 4.012,
            "validation_loss": 4.2171,
            "unigram_entropy": 6.9134,
            "processes": 2,
            "threads_per_process": 1,
            "precision": "fp32",
            "peak_memory_bytes": 1_240_000_000,
            "skipped_steps": 0,
            "predicted": {"step_seconds": 0.318, "memory_bytes": 1_190_000_000},
            "resumed_at_step": None,
        },
        "evaluate": {
            "seconds": 24.3,
            "truncated": 0,
            "tasks": [
                _task("perplexity", 0, "token_perplexity", 67.8, (61.9, 73.7), 44, None, better=False),
                _task("perplexity", 0, "bits_per_byte", 1.797, (1.741, 1.853), 44, None, better=False),
                _task("last_word", 0, "accuracy", 0.235, (0.181, 0.299), 200, None),
                _task("last_word", 3, "accuracy", 0.225, (0.172, 0.288), 200, None),
                _task("continuation", 0, "accuracy", 0.415, (0.349, 0.484), 200, 0.25),
                _task("continuation", 3, "accuracy", 0.29, (0.232, 0.356), 200, 0.25),
                _task("continuation", 3, "accuracy_per_byte", 0.31, (0.25, 0.377), 200, 0.25),
                _task("arithmetic", 0, "exact_match", 0.0, (0.0, 0.019), 200, None),
                _task("arithmetic", 3, "exact_match", None, None, 0, None),
            ],
        },
        "audit": {
            "hans": {
                "examples": 120,
                "accuracy": 0.5,
                "standard_error": 0.046,
                "interval": [0.412, 0.588],
                "chance": 0.5,
                "cells": [
                    {
                        "heuristic": heuristic,
                        "label": label,
                        "accuracy": accuracy,
                        "documents": 20,
                        "interval": interval,
                    }
                    for heuristic in ("lexical_overlap", "subsequence", "constituent")
                    for label, accuracy, interval in (
                        ("entailment", 0.95, [0.764, 0.991]),
                        ("non-entailment", 0.05, [0.009, 0.236]),
                    )
                ],
                "note": "A model of this size is expected at chance: it answers nearly the same to every example.",
            },
            "association": {
                "occupations": len(rows),
                "neutral_subjects": 12,
                "mean_log_odds_ratio": -0.31,
                "log_odds_ratio_standard_error": 0.066,
                "log_odds_ratio_interval": [-0.439, -0.181],
                "tokens": {"female": 4, "woman": 2, "male": 2, "man": 1},
                "compared_words": [],
                "mean_log_ratio": None,
                "interval": None,
                "male_preferred_share": None,
                "rows": rows,
                "note": "Occupations move the odds towards the male words by −0.31 nats.",
            },
        },
        "samples": [
            {
                "prompt": "The function returns",
                "text": " a new string with the given value.\n\nIf the file is not given, the default is used.",
            },
            {"prompt": "", "text": HOSTILE},
        ],
        "artifacts": [
            {
                "stage": stage,
                "path": stage,
                "digest": f"{index:x}" * 64,
                "seconds": seconds,
                "peak_memory_bytes": 9e8 + 1e8 * index,
                "reused": index < 2,
            }
            for index, (stage, seconds) in enumerate(
                (
                    ("crawl", 61.2),
                    ("curate", 24.9),
                    ("tokenize", 4.4),
                    ("plan", 9.7),
                    ("train", 201.0),
                    ("evaluate", 24.3),
                    ("audit", 9.1),
                )
            )
        ],
        "versions": {
            "python": "3.11.7",
            "megalith": "0.1.0",
            "torch": "2.13.0",
            "numpy": "2.4.6",
            "daft": "0.7.26",
            "tokenizers": "0.22.1",
        },
        "seconds": 334.6,
        "peak_memory_bytes": 1_940_000_000,
    }


def make_samples() -> dict[str, Any]:
    """Return the content of `curate/samples.json`."""
    texts = (
        HOSTILE,
        "Help on module zipimport:\n\nNAME\n    zipimport",
        "שלום עולם — مرحبا 🜁 e\u0301\ud800",
        "x" * 400,
    )
    return {
        name: [
            {
                "id": f"{index:016x}",
                "url": f"http://localhost/{name}{index}.html" if index % 2 else None,
                "reason": next(iter(dropped), "no reason"),
                "text": text,
                **({"kept": {"id": "f" * 16, "url": None}} if name == "minhash" else {}),
            }
            for index, text in enumerate(texts)
        ]
        for name, *_, dropped in STEPS
    }


def make_history() -> dict[str, Any]:
    """Return the content of `train/history.json`."""
    chance = random.Random(2)
    steps = []
    for step in range(1, 549):
        clean = 4.0 + 4.4 * math.exp(-step / 90)
        rate = 3e-3 * min(step / 11, 0.1 + 0.45 * (1 + math.cos(math.pi * step / 548)))
        steps.append(
            {
                "step": step,
                "tokens": step * 4096,
                "loss": clean + chance.gauss(0, 0.12),
                "learning_rate": rate,
                "gradient_norm": 0.6 + 2 * math.exp(-step / 40) + abs(chance.gauss(0, 0.12)),
            }
        )
    validation = [
        {"step": step, "tokens": step * 4096, "loss": 4.21 + 4.3 * math.exp(-step / 88)}
        for step in (*range(50, 548, 50), 548)
    ]
    return {"steps": steps, "validation": validation}


def write_expedition(directory: Path, expedition: dict[str, Any]) -> Path:
    """Lay an expedition's files in a directory."""
    (directory / "curate").mkdir(parents=True, exist_ok=True)
    (directory / "train").mkdir(exist_ok=True)
    (directory / "expedition.json").write_text(json.dumps(expedition))
    (directory / "curate" / "samples.json").write_text(json.dumps(make_samples()))
    (directory / "train" / "history.json").write_text(json.dumps(make_history()))
    return directory


@pytest.fixture
def expedition() -> dict[str, Any]:
    return make_expedition()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one expedition, for tests that only read."""
    return write_expedition(tmp_path_factory.mktemp("finished"), make_expedition())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_expedition(tmp_path / "runs", make_expedition())


def _plan() -> dict[str, Any]:
    layouts = [
        (1, 1, 2, 8, 1, "fp32", 0.318, 1.19e9, "fastest"),
        (1, 1, 1, 16, 2, "fp32", 0.332, 0.81e9, "4 % slower: two threads share one optimizer step"),
        (1, 1, 2, 4, 1, "fp32", 0.341, 1.04e9, "7 % slower: smaller matrices"),
        (1, 1, 1, 8, 2, "fp32", 0.349, 0.74e9, "10 % slower: smaller matrices"),
        (1, 1, 2, 2, 1, "fp32", 0.402, 0.98e9, "26 % slower: smaller matrices"),
        (1, 1, 1, 16, 1, "fp32", 0.611, 0.80e9, "92 % slower: leaves a core idle"),
        (1, 1, 2, 8, 1, "bf16", 1.48, 1.1e9, "4.6 times slower: bf16 products are slow on this processor"),
        (1, 1, 1, 16, 2, "bf16", 1.61, 0.8e9, "5.1 times slower: bf16 products are slow on this processor"),
        (2, 1, 1, 16, 1, "fp32", 0.9, 0.9e9, "5 heads cannot be split over tensor=2"),
    ]
    names = (
        "tensor",
        "pipeline",
        "data",
        "micro_batch_size",
        "threads_per_process",
        "precision",
        "step_seconds",
        "memory_bytes",
        "why",
    )
    laws = [
        ("kaplan", 4.1e6, 8.1e5, None, None),
        ("chinchilla-1", 1.31e6, 2.54e6, None, [1.1e6, 1.6e6]),
        ("chinchilla-2", 1.42e6, 2.35e6, None, [0.9e6, 2.2e6]),
        ("chinchilla-3", 1.51e6, 2.2e6, 8.31, [0.8e6, 2.9e6]),
        ("chinchilla-refit", 9.1e5, 3.66e6, 14.1, [0.5e6, 1.7e6]),
    ]
    return {
        "parameters": 1_938_720,
        "non_embedding_parameters": 1_238_400,
        "tokens": 2_244_608,
        "steps": 548,
        "flops": 2.0e13,
        "flops_per_step": 3.65e10,
        "step_seconds": 0.318,
        "interval": [0.286, 0.362],
        "seconds": 174.3,
        "memory_bytes": 1_190_000_000,
        "memory": {
            "parameters": 7.8e6,
            "gradients": 7.8e6,
            "optimizer": 15.5e6,
            "activations": 610e6,
            "runtime": 549e6,
        },
        "predicted_loss": 8.31,
        "law": "chinchilla-3",
        "epochs": 0.825,
        "laws": [dict(zip(("law", "parameters", "tokens", "loss", "interval"), law, strict=True)) for law in laws],
        "layout": dict(zip(names[:6], layouts[0][:6], strict=True)),
        "candidates": [dict(zip(names, layout, strict=True)) for layout in layouts],
        "machine": {
            "cpu": "Intel(R) Xeon(R) Processor @ 2.60GHz",
            "cores": 2,
            "memory_bytes": 8.2e9,
            "gemm_flops_per_second": {"fp32": 1.1e11, "bf16": 2.3e10},
            "peak_flops_per_second": 2.2e11,
        },
        "warnings": ["chinchilla-3 was fitted on models of 44M parameters and more; this one has 1.94M."],
    }


def _task(
    name: str,
    shots: int,
    metric: str,
    score: float | None,
    interval: tuple[float, float] | None,
    documents: int,
    chance: float | None,
    *,
    better: bool = True,
) -> dict[str, Any]:
    return {
        "name": name,
        "shots": shots,
        "metric": metric,
        "score": score,
        "standard_error": None,
        "interval": interval and list(interval),
        "documents": documents,
        "chance": chance,
        "higher_is_better": better,
    }
