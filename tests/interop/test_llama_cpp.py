"""A GGUF file that we write runs in the real llama.cpp: the same tokens, the same text, the same perplexity.

`npm install node-llama-cpp@3.21.1` in some directory, named in MEGALITH_LLAMA_CPP, brings a built one.
"""

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from megalith.inference import LanguageModel, load_model
from megalith.interop.exporting import export_model
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from tests.inference.models import PROSE, write_model
from tests.interop.oracle import VOCAB

pytestmark = pytest.mark.llama_cpp

TEXTS = (
    "Hello, world!  It's 2,048 tokens...\n\nNew  line\tx", "naïve café — 530B? don't", "def f(x):\n    return x**2",
    "日本語 русский 🙂", " leading", "trailing ", "a", "<|endoftext|>", "x\n\n\n y", "1234567890", "e\u0301 é",
    "https://example.org/?q=1&r=2", "I'LL WE'VE", "\t\ttabs", "“quoted” – dash", "a" * 50, "Ωμέγα", "(())[[]]",
    "mixed CASE wOrDs", "The nurse laughed.",
)  # fmt: skip
LLAMA = {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False}
MODELS: dict[str, dict[str, Any]] = {
    "llama grouped tied": {**LLAMA, "num_kv_heads": 2, "rotary_base": 500.0},
    "llama untied": {**LLAMA, "tie_embeddings": False},
    "llama3 scaled": {
        **LLAMA,
        "rotary_scaling": {
            "kind": "llama3", "factor": 8.0, "original_length": 8192, "low_frequency_factor": 1.0,
            "high_frequency_factor": 4.0,
        },
        "sequence_length": 128,
    },
    "qwen2": {**LLAMA, "qkv_bias": True, "num_kv_heads": 2},
    "qwen3": {**LLAMA, "query_key_norm": "head", "head_size": 32},
    "olmo2": {**LLAMA, "query_key_norm": "whole", "layer_norm": "reordered", "tie_embeddings": False},
    "neox": {"positions": "rotary", "rotary_fraction": 0.5, "parallel_residual": True, "tie_embeddings": False},
    "gpt2": {},
}  # fmt: skip


def ask(model: Path, lm: LanguageModel, texts: tuple[str, ...], count: int, row: list[int]) -> dict[str, Any]:
    """The answers of llama.cpp."""
    home = Path(os.environ.get("MEGALITH_LLAMA_CPP", "")) / "node_modules" / "node-llama-cpp"
    if "MEGALITH_LLAMA_CPP" not in os.environ or not home.is_dir():
        pytest.skip("node-llama-cpp is not installed in the directory that MEGALITH_LLAMA_CPP names")
    asked = {
        "library": str(home / "dist" / "index.js"), "model": str(model), "texts": texts, "count": count, "row": row,
        "prompt": lm.tokenizer.with_prefix(lm.tokenizer.encode("The nurse")),
        "context": min(lm.config.sequence_length, 1024),
    }  # fmt: skip
    script = Path(__file__).with_name("llama_cpp.mjs")
    done = subprocess.run(["node", str(script)], input=json.dumps(asked), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def compare(lm: LanguageModel, model: Path, count: int, row: list[int], closeness: float) -> None:
    """The same ids, the same greedy tokens, and perplexities that differ by less than a share."""
    found = ask(model, lm, TEXTS, count, row)
    assert found["tokens"] == [lm.tokenizer.encode(text) for text in TEXTS]
    known = lm.tokenizer.with_prefix(lm.tokenizer.encode("The nurse"))
    for token in found["greedy"]:
        with torch.no_grad():
            logits = lm.model(torch.tensor([known]))[0, -1]
        assert logits.max() - logits[token] < 1e-3 * logits[: lm.config.vocab_size].abs().max()
        known.append(token)
    with torch.no_grad():
        logits = lm.model(torch.tensor([row[:-1]]))[0, :, : lm.config.vocab_size].double()
    nats = float(torch.nn.functional.cross_entropy(logits, torch.tensor(row[1:]), reduction="sum"))
    assert math.exp((found["nats"] - nats) / (len(row) - 1)) == pytest.approx(1, abs=closeness)


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_reads_what_we_write(name: str, tmp_path: Path) -> None:
    settings = {"sequence_length": 64, **MODELS[name]}
    config = ModelConfig(num_layers=2, hidden_size=64, num_heads=4, vocab_size=VOCAB, init_std=0.2, **settings)
    home = write_model(tmp_path / "model")
    model = GPT(config)
    initialise(model, config, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    save_file({name: each.detach() for name, each in model.named_parameters()}, home / "model.safetensors")
    (home / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    made = export_model(home, tmp_path / "out", "gguf", ["F32"])
    lm = load_model(home)
    row = lm.tokenizer.with_prefix(lm.tokenizer.encode("".join(PROSE)))[:60]
    compare(lm, made.path / made.facts["weights"][0], 20, row, 5e-3)
