"""Evaluate and audit artifacts made by hand: plausible figures, unpleasant texts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, produce
from tests.report.conftest import HOSTILE

LONG = "x" * 5000 + " the end?"


def choice(place: int) -> dict[str, Any]:
    """One result of a task of two choices; the model says the first one to two of three questions."""
    said, gold = int(place % 3 == 2), place % 2
    prompt = HOSTILE if place == 0 else LONG if place == 15 else f"question number {place}"
    return {
        "id": f"q{place}" if place else HOSTILE,
        "gold": gold,
        "label": ("no", "yes")[gold],
        "predicted": said,
        "accuracy": 0.5 if place == 7 else float(said == gold),
        "margin": (1.0 if said == gold else -1.0) * (1 + place % 5) / 2,
        "prompt": prompt,
        "fields": {"subject": HOSTILE},
    }


def row(name: str, shots: int, metric: str, score: float | None, **more: Any) -> dict[str, Any]:
    interval = None if score is None else [score * 0.8, min(1.0, score * 1.2) if score <= 1 else score * 1.2]
    return {
        "name": name,
        "shots": shots,
        "metric": metric,
        "score": score,
        "interval": interval,
        "documents": 300,
        "clusters": 100,
        "chance": None,
        "higher_is_better": "accuracy" in metric,
        "note": None,
        **more,
    }


def write_evaluate(path: Path, *, items: int = 300, facts: Mapping[str, Any] | None = None) -> Artifact:
    written = [
        {"id": str(place), "generated": HOSTILE, "answers": ["42"], "correct": place % 2 == 0} for place in range(20)
    ]
    words = [{"id": str(place), "greedy": place % 4 == 0, "log_probability": -place / 10} for place in range(40)]
    nats = [{"id": HOSTILE, "nats": 210.5, "tokens": 70, "bytes": 300}]
    files = {
        "boolq-0": [choice(place) for place in range(items)],
        "gsm8k-5": written,
        "lambada-0": words,
        "perplexity-0": nats,
    }
    held = {
        "tasks": [
            row("boolq", 0, "accuracy", 0.6, chance=0.5),
            row("boolq", 0, "accuracy_per_byte", None, chance=0.5, note=HOSTILE),
            row("gsm8k", 5, "exact_match", 0.5),
            row("lambada", 0, "accuracy", 0.25),
            row("lambada", 0, "perplexity", 12.5),
            row("perplexity", 0, "bits_per_byte", 1.01),
        ],
        "by_field": [row("boolq", 0, "accuracy", 0.6, field="subject", value=HOSTILE)],
        "contamination": [
            {
                "name": "boolq",
                "shots": 0,
                "metric": "accuracy",
                "says": "any 13 words in a row",
                "too_short": 2,
                "clean": {"documents": 280, "score": 0.6, "interval": [0.55, 0.65]},
                "dirty": {"documents": 18, "score": None, "interval": None},
                "difference": None,
                "difference_interval": None,
                "note": "cannot tell: 8 dirty documents, and 10 are needed",
            }
        ],
        "truncated": 3,
        "seconds": 12.5,
    }

    def build(workspace: Workspace) -> dict[str, Any]:
        for name, results in files.items():
            with workspace.file(f"items/{name}.jsonl") as file:
                file.write_text("".join(json.dumps(result) + "\n" for result in results))
        workspace.write_json("samples.json", [{"prompt": "The", "text": HOSTILE}])
        return {**held, **(facts or {})}

    return produce(path, stage="evaluate", settings={}, inputs={}, seed=0, build=build)


def write_audit_artifact(path: Path, facts: Mapping[str, Any] | None = None) -> Artifact:
    subcases = [
        {"heuristic": heuristic, "label": label, "subcase": f"{kind}_{place}", "accuracy": accuracy, "documents": 9,
         "interval": [accuracy * 0.7, 0.3 + accuracy * 0.7]}
        for heuristic in ("lexical_overlap", "subsequence", "constituent")
        for label, kind, accuracy in (("entailment", "le", 0.9), ("non-entailment", "ln", 0.1))
        for place in range(5)
    ]  # fmt: skip
    histograms = {
        "edges": [-1.0, -0.5, 0.0, 0.5],
        "rows": [
            {"heuristic": "lexical_overlap", "label": label, "counts": counts}
            for label, counts in (("entailment", [1, 2, 3]), ("non-entailment", [4, 5, 0]))
        ],
    }
    held = {
        "hans": {"examples": 270, "accuracy": 0.5, "interval": [0.44, 0.56], "chance": 0.5, "subcases": subcases,
                 "histograms": histograms, "note": "At chance.", "limits": "One prompt."},
        "hans_shots": {"tables": {"counts": [{"plan": str(count), "histograms": histograms} for count in (0, 4)]}},
        "association": {"mean_log_odds_ratio": -0.3, "log_odds_ratio_interval": [-0.5, -0.1],
                        "rows": [{"occupation": HOSTILE, "log_odds_ratio": 0.5}]},
        "in_context": {"tasks": [{"task": "hans", "counts": [
            {"shots": shots, "correct": {"mean": mean, "interval": [0.3, 0.6], "difference": mean - 0.4,
                                         "difference_interval": [-0.1, 0.2]}}
            for shots, mean in ((0.0, 0.4), (4.0, 0.5))
        ]}]},
        "adjectives": {"kinds": [{"kind": "gender", "groups": [{"group": "she", "texts": 20, "words": [
            {"word": HOSTILE, "texts": 5, "p": 0.02}]}]}]},
        "bbq": {"skipped": "no official files below MEGALITH_DATA"},
        "new_instrument": {"chance": 0.25, "groups": [
            {"group": HOSTILE, "accuracy": 0.4, "interval": [0.3, 0.5], "items": 12},
            {"group": "others", "accuracy": 0.2, "interval": [0.1, 0.3],
             "pull": {"nats": -0.5, "interval": [-0.7, -0.3], "p": 0.01}},
        ]},
        "seconds": 3.5,
    }  # fmt: skip

    def build(workspace: Workspace) -> dict[str, Any]:
        with workspace.file("items/probes.jsonl") as file:
            file.write_text(
                json.dumps({"kind": "riddles", "prompt": "A riddle:", "text": HOSTILE, "found": False}) + "\n"
            )
        return {**held, **(facts or {})}

    return produce(path, stage="audit", settings={}, inputs={}, seed=0, build=build)
