"""A stand-in for the proxy runs of a search: losses follow a known law of the weights, without a model."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from megalith.recipe import Recipe, load_recipe
from megalith.study.mixture import searching
from megalith.study.mixture.design import MixtureCell
from megalith.study.mixture.weights import Floats

SIZES = {"prose": 10_000, "kin": 60_000, "noise": 130_000}
"""Training tokens. The target is prose, of which there is little; kin is of its kind, noise of none."""
VALUES: dict[str, Any] = {
    "name": "planted", "about": "Planted.",
    "curate": {"datasets": {name: {"paths": [f"{name}.jsonl"]} for name in SIZES}},
    "tokenize": {"vocab_size": 384},
    "model": {"vocab_size": 384, "sequence_length": 64, "positions": "rotary", "norm": "rmsnorm",
              "activation": "swiglu", "bias": False, "num_layers": 2, "hidden_size": 32, "num_heads": 2},
    "train": {"global_batch_size": 8, "precision": "fp32", "tokens": 200_000},
}  # fmt: skip
_LOSS = (
    "w = dict(json.loads(weights)); e = math.exp; own = w['prose'] + w['kin']\n"
    "shake = random.Random(digest).gauss(0, noise)\n"
    "losses = {'prose': 3 + e(-4 * w['prose'] - 2.5 * w['kin']), 'kin': 3 + e(-3 * own), 'noise': 2 + e(-w['noise'])}\n"
    "losses = {name: loss + shake for name, loss in losses.items()}\n"
)
_RUN = (
    "import json, math, os, random, sys\n"
    "place, digest, weights, noise, name = sys.argv[1:6]; noise = float(noise); name = name.rpartition('-')[0]\n"
    "open(os.path.join(os.path.dirname(place), 'begun.txt'), 'a').write(name + '\\n')\n"
    "if name in sys.argv[6:] and 'kill' not in sys.argv: sys.exit('out of paper')\n"
    f"{_LOSS}"
    "told = {'digest': digest, 'losses': losses, 'train_loss': 3.0, 'seconds': 1.0, 'steps': 78}\n"
    "with open(os.path.join(place, 'losses.json'), 'w') as file: json.dump(told, file)\n"
    "if name in sys.argv[6:]: os.kill(os.getppid(), 9)\n"
)


def recipe(*overrides: str) -> Recipe:
    return load_recipe(Recipe.model_validate(VALUES), overrides)[0]


def true_losses(weights: Floats) -> Floats:
    """The law (mixtures, data sets): prose, kin, noise."""
    prose, kin, noise = weights.T
    made: Floats = np.stack(
        [3 + np.exp(-4 * prose - 2.5 * kin), 3 + np.exp(-3 * (prose + kin)), 2 + np.exp(-noise)], axis=1
    )
    return made


def plant(monkeypatch: pytest.MonkeyPatch, *, noise: float = 0.002, stops: str = "", kill: bool = False) -> None:
    """Let runs be the stand-in's; the one that `stops` fails, or kills the search."""
    facts = {"datasets": {name: {"tokens": size} for name, size in SIZES.items()}}
    held_out = SimpleNamespace(facts={"held_out": dict.fromkeys(SIZES, 4000)})

    def command(cell: MixtureCell, directory: Path) -> list[str]:
        place = directory.absolute() / "cells" / cell.name
        weights = json.dumps(list(zip(cell.names, cell.weights, strict=True)))
        last = [stops, *(["kill"] if kill else [])] if stops else []
        return [
            sys.executable,
            "-S",
            "-c",
            f"exec({_RUN!r})",
            str(place),
            cell.digest,
            weights,
            str(noise),
            cell.name,
            *last,
        ]

    monkeypatch.setattr(searching, "tokenized", lambda *_: facts)
    monkeypatch.setattr(searching, "proxy_tokens", lambda *_: held_out)
    monkeypatch.setattr(searching, "command", command)
