"""Embeddings are the mean of the last hidden states, as transformers computes them, whatever holds the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from megalith.errors import InputError, UnsupportedError
from megalith.inference.embedder import load_embedder
from megalith.interop.embedder import open_embedder
from megalith.interop.importing import import_model
from tests.interop import oracle

TEXTS = [
    "A stone.",
    "The old bridge over the river was mended by the people of the village in the spring of that year.",
    "Rain",
    "They said that it would hold for a hundred years, and it has held for a hundred and twelve of them.",
    " ".join(["long"] * 90),
]
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
BERT = oracle.SMALL | {"vocab_size": oracle.VOCAB + len(SPECIAL)}


def _saved(kind: str, settings: Any, directory: Path) -> Any:
    """A random bare model of transformers with a tokenizer, which knows a BERT's tokens if it is one."""
    torch.manual_seed(7)
    model = transformers.AutoModel.from_config(
        getattr(transformers, kind)(bos_token_id=0, eos_token_id=0, pad_token_id=0, **settings)
    ).eval()
    model.save_pretrained(directory)
    tokenizer = oracle.save_tokenizer(directory)
    if kind == "BertConfig":
        tokenizer.add_special_tokens(SPECIAL)
        tokenizer.save(str(directory / "tokenizer.json"))
    return model, tokenizer


@torch.no_grad()
def _mean(model: Any, ids: list[int]) -> np.ndarray:
    found = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
    return (found / found.norm()).numpy()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("BertConfig", BERT), ("LlamaConfig", oracle.GROUPED), ("GPT2Config", oracle.GPT2)],
    ids=["bert", "llama", "gpt2"],
)
def test_embeddings_are_those_of_transformers_in_batches_of_any_size(
    kind: str, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = _saved(kind, settings, tmp_path)
    embedder = open_embedder(tmp_path)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    if kind == "BertConfig":
        cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        wanted = [_mean(model, [cls, *each[:30], sep]) for each in ids]
    else:
        wanted = [_mean(model, each[:32]) for each in ids]
    for room in (4096, 40):
        monkeypatch.setattr("megalith.inference.embedder.BATCH_TOKENS", room)
        made = embedder.embed(TEXTS, 32)
        assert made == pytest.approx(np.stack(wanted), abs=2e-6)
    assert embedder.embed(TEXTS[4:], 1000)[0] == pytest.approx(embedder.embed(TEXTS[4:], 64)[0])  # the model's own end


def test_a_model_of_ours_embeds_as_the_one_that_it_was_imported_from(tmp_path: Path) -> None:
    oracle.make(oracle.CAUSAL[2], tmp_path / "theirs")
    import_model(tmp_path / "theirs", tmp_path / "ours")
    theirs = open_embedder(tmp_path / "theirs").embed(TEXTS, 32)
    for opening in (open_embedder, load_embedder):
        assert opening(tmp_path / "ours").embed(TEXTS, 32) == pytest.approx(theirs, abs=1e-6)
    assert np.linalg.norm(theirs, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert set(open_embedder(tmp_path / "ours").digests) >= {"model.safetensors", "tokenizer.json"}


def test_what_cannot_embed_is_refused_in_a_sentence(tmp_path: Path) -> None:
    _saved("BertConfig", BERT, tmp_path / "bert")
    oracle.save_tokenizer(tmp_path / "bert")
    with pytest.raises(InputError, match=r"\[CLS\]"):
        open_embedder(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json is missing"):
        open_embedder(tmp_path / "bert")
    told = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps(told | {"model_type": "clip"}))
    with pytest.raises(UnsupportedError, match="clip"):
        open_embedder(tmp_path / "bert")
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(InputError, match="not a model"):
            open_embedder(tmp_path / name)
