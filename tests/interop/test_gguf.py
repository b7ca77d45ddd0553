"""GGUF files come back as they went out, for every architecture; quantised ones with their loss beside them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from megalith.errors import UnsupportedError
from megalith.inference import load_model
from megalith.interop.exporting import export_model
from megalith.interop.family import resolved
from megalith.interop.gguf_file import QUANTISED, GgufFile
from megalith.interop.importing import import_model
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from megalith.tokens import Conventions
from tests.inference.models import PROSE, write_model
from tests.interop.oracle import VOCAB
from tests.interop.test_llama_cpp import MODELS
from tests.tokens.test_any_tokenizer import llama2, llama3

gguf = pytest.importorskip("gguf", reason="GGUF is written by the package gguf")


def home_of(directory: Path, settings: dict[str, Any]) -> Path:
    """A model with random norms and biases."""
    home = write_model(directory)
    shape = {"num_layers": 2, "hidden_size": 64, "num_heads": 4, "vocab_size": VOCAB, "sequence_length": 64}
    config = ModelConfig.model_validate({**shape, "init_std": 0.2, **settings})
    model = GPT(config)
    initialise(model, config, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    save_file({name: each.detach() for name, each in model.named_parameters()}, home / "model.safetensors")
    (home / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    return home


@pytest.mark.parametrize("name", MODELS)
def test_weights_shape_and_tokens_come_back(name: str, tmp_path: Path) -> None:
    home = home_of(tmp_path / "model", MODELS[name])
    made = export_model(home, tmp_path / "out", "gguf")
    back = import_model(made.path / f"{tmp_path.name}-F32.gguf", tmp_path / "back")
    one, other = (load_file(path / "model.safetensors") for path in (home, back.path / "model"))
    assert one.keys() == other.keys()
    rows = {name: tensor[:VOCAB] if len(tensor) > VOCAB else tensor for name, tensor in one.items()}
    assert all(torch.equal(other[name][: len(tensor)], tensor) for name, tensor in rows.items())
    lm, again = load_model(home), load_model(back.path)
    differing = {key for key, value in resolved(lm.config).items() if resolved(again.config)[key] != value}
    assert differing <= {"init_std", *(["activation"] if name == "neox" else [])}  # llama.cpp has one GELU
    for text in PROSE:
        assert again.tokenizer.encode(text) == lm.tokenizer.encode(text)
    assert (again.tokenizer.prefix, again.tokenizer.ends) == (lm.tokenizer.prefix, lm.tokenizer.ends)


@pytest.mark.parametrize("kind", sorted(QUANTISED.values()))
def test_blocks_of_every_kind_are_read_as_the_package_reads_them(kind: str, tmp_path: Path) -> None:
    blocks = gguf.GGMLQuantizationType[kind]
    size, bytes_each = gguf.GGML_QUANT_SIZES[blocks]
    raw = torch.randint(0, 255, (3, 2 * bytes_each), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("t", raw.numpy(), raw_dtype=blocks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufFile(tmp_path / "t.gguf").read("t")
    assert found.shape == (3, 2 * size)
    assert torch.equal(found.nan_to_num(), torch.from_numpy(gguf.quants.dequantize(raw.numpy(), blocks)).nan_to_num())


def test_quantised_files_have_their_loss_beside_them(tmp_path: Path) -> None:
    home = home_of(tmp_path / "model", {})
    text = tmp_path / "text.txt"
    text.write_text("".join(PROSE) * 4)
    made = export_model(home, tmp_path / "out", "gguf", ["F32", "F16", "BF16", "Q8_0"], text)
    bits = made.facts["loss"]["bits_per_byte"]
    assert bits["F32"] == pytest.approx(bits["original"], abs=1e-6)
    assert 0 < abs(bits["F16"] - bits["original"]) < abs(bits["Q8_0"] - bits["original"]) < 0.1
    sizes = [(made.path / f"{tmp_path.name}-{kind}.gguf").stat().st_size for kind in ("F32", "BF16", "Q8_0")]
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2]
    assert f"| Q8_0 | {bits['Q8_0']:.5f} |" in (made.path / "README.md").read_text()
    kinds = {tensor.kind for tensor in GgufFile(made.path / f"{tmp_path.name}-Q8_0.gguf").tensors.values()}
    assert kinds == {0, 8}


@pytest.mark.parametrize("make", [llama3, llama2])
def test_a_tokenizer_of_another_kind_comes_back(make: Any, tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.no_truncation()
    tokenizer.no_padding()
    size = tokenizer.get_vocab_size()
    home = home_of(tmp_path / "model", {"vocab_size": size + 5})
    (home / "tokenizer.json").write_text(tokenizer.to_str())
    conventions = Conventions(prefix=1, end_of_text=(2, 3), padding=0, chat_template="{{ x }}")
    (home / "generation.json").write_text(conventions.model_dump_json())
    made = export_model(home, tmp_path / "out", "gguf")
    back = import_model(made.path / f"{tmp_path.name}-F32.gguf", tmp_path / "back")
    lm, again = load_model(home), load_model(back.path)
    for text in (*PROSE, "Hello  world\n\n1234", " x", "<|end|> é"):
        assert again.tokenizer.encode(text) == lm.tokenizer.encode(text), text
        assert again.tokenizer.decode(again.tokenizer.encode(text)) == lm.tokenizer.decode(lm.tokenizer.encode(text))
    assert again.tokenizer.prefix == 1
    assert again.tokenizer.ends == {2, 3}
    assert again.tokenizer.conventions.chat_template == "{{ x }}"


def test_an_architecture_that_is_not_known_and_a_tokenizer_that_is_not_are_refused(tmp_path: Path) -> None:
    for architecture, pre, key in (
        ("mamba", "gpt-2", "general.architecture"),
        ("llama", "viking", "tokenizer.ggml.pre"),
    ):
        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        for name, value in {"block_count": 1, "embedding_length": 8, "feed_forward_length": 8}.items():
            writer.add_uint32(f"{architecture}.{name}", value)
        writer.add_uint32(f"{architecture}.attention.head_count", 2)
        writer.add_uint32(f"{architecture}.context_length", 8)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(["a", "b"])
        writer.add_eos_token_id(0)
        rows = {"token_embd.weight": (2, 8), "output_norm.weight": (8,)}
        rows |= {f"blk.0.{name}.weight": (8, 8) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        rows |= {f"blk.0.{name}.weight": (8, 8) for name in ("ffn_gate", "ffn_up", "ffn_down")}
        rows |= {f"blk.0.{name}.weight": (8,) for name in ("attn_norm", "ffn_norm")}
        for name, shape in rows.items():
            writer.add_tensor(name, torch.ones(shape).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(UnsupportedError, match=key):
            import_model(path, tmp_path / "back")
