"""Directories and files that are damaged, lie or climb out: one sentence, and nothing half-written."""

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import InputError, UnsupportedError
from megalith.interop.gguf_file import GgufFile
from megalith.interop.importing import import_model
from megalith.recipe import load_recipe
from megalith.training.initial_weights import check_origin
from tests.interop.oracle import VOCAB, save_tokenizer

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 12,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 16,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "eos_token_id": 0,
}  # fmt: skip


def weights() -> dict[str, torch.Tensor]:
    layer = "model.layers.0."
    square, wide = torch.ones(8, 8), torch.ones(12, 8)
    return {
        "model.embed_tokens.weight": torch.ones(VOCAB, 8),
        "lm_head.weight": torch.ones(VOCAB, 8),
        "model.norm.weight": torch.ones(8),
        f"{layer}input_layernorm.weight": torch.ones(8),
        f"{layer}post_attention_layernorm.weight": torch.ones(8),
        **{f"{layer}self_attn.{name}_proj.weight": square.clone() for name in "qkvo"},
        f"{layer}mlp.gate_proj.weight": wide,
        f"{layer}mlp.up_proj.weight": wide.clone(),
        f"{layer}mlp.down_proj.weight": torch.ones(8, 12),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A whole Llama, written by hand."""
    directory = tmp_path / "theirs"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(LLAMA))
    save_tokenizer(directory)
    save_file(weights(), directory / "model.safetensors")
    return directory


def shards(directory: Path, names: tuple[str, str]) -> None:
    """Put the weights in two files with an index."""
    given = weights()
    (directory / "model.safetensors").unlink()
    halves = sorted(given)[:5], sorted(given)[5:]
    place = {}
    for name, half in zip(names, halves, strict=True):
        (directory / name).parent.mkdir(exist_ok=True)
        save_file({each: given[each] for each in half}, directory / name)
        place |= dict.fromkeys(half, name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(directory / "executed")))


def cut(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def without_a_shard(directory: Path) -> None:
    shards(directory, ("a.safetensors", "b.safetensors"))
    (directory / "b.safetensors").unlink()


def changed(name: str, tensor: torch.Tensor | None) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        file = directory / "model.safetensors"
        given = load_file(file)
        given.pop(name, None)
        save_file(given if tensor is None else {**given, name: tensor}, file)

    return change


def configured(**changes: object) -> Callable[[Path], None]:
    return lambda directory: (directory / "config.json").write_text(json.dumps({**LLAMA, **changes})) and None


def without(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).unlink()


NOT_A_NUMBER = torch.full((8,), torch.nan)
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle": (pickled, "pytorch_model.bin, whose format can run any program"),
    "cut short": (cut, "cut short or damaged"),
    "a shard missing": (without_a_shard, "1 of 2 shards missing: b.safetensors"),
    "a path that climbs out": (
        lambda directory: shards(directory, ("../a.safetensors", "b.safetensors")),
        "not a .safetensors file of this directory",
    ),
    "a wrong shape": (changed("model.norm.weight", torch.ones(9)), r"model.norm.weight is \(9,\)"),
    "a wrong number of tokens": (changed("lm_head.weight", torch.ones(9, 8)), r"lm_head.weight is \(9, 8\)"),
    "a tensor missing": (changed("model.norm.weight", None), "model.norm.weight is missing"),
    "a tensor too many": (changed("model.odd.weight", torch.ones(8)), "model.odd.weight is unknown"),
    "numbers that are not finite": (changed("model.norm.weight", NOT_A_NUMBER), "model.norm.weight has numbers"),
    "integers": (changed("model.norm.weight", torch.ones(8).to(torch.float8_e4m3fn)), "F8_E4M3"),
    "a tokenizer larger than the embedding": (configured(vocab_size=300), "do not belong together"),
    "no tokenizer": (without("tokenizer.json"), "tokenizer.json is missing"),
    "no weights": (without("model.safetensors"), "model.safetensors is missing"),
    "no configuration": (without("config.json"), "config.json"),
    "a configuration of another kind": (configured(hidden_size="wide"), "hidden_size"),
    "a shape that cannot be": (configured(num_attention_heads=3), "cannot be split"),
    "no end of text": (configured(eos_token_id=None), "eos_token_id is missing"),
    "an end of text beyond the tokenizer": (configured(eos_token_id=9999), "9999 is no token"),
}  # fmt: skip


def test_the_whole_model_is_taken(model: Path, tmp_path: Path) -> None:
    assert import_model(model, tmp_path / "ours").facts["family"] == "llama"
    shards(model, ("a.safetensors", "b.safetensors"))
    assert import_model(model, tmp_path / "again").facts["family"] == "llama"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_paragraph_and_leaves_nothing(fault: str, model: Path, tmp_path: Path) -> None:
    damage, said = FAULTS[fault]
    damage(model)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises((InputError, UnsupportedError), match=said):
        import_model(model, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not (model / "executed").exists()
    done = CliRunner().invoke(app, ["import", str(model), "--output", str(tmp_path / "ours")])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_its_recipe_is_one_that_trains_it_further(model: Path, tmp_path: Path) -> None:
    made = import_model(model, tmp_path / "ours")
    recipe, _ = load_recipe(made.path / "recipe.yaml", [f"train.from={made.path}", "train.tokens=1000"])
    assert recipe.model.model_dump() == json.loads((made.path / "model" / "config.json").read_text())
    assert check_origin(recipe, tmp_path)


def test_an_import_stands_and_another_source_is_refused_until_fresh(model: Path, tmp_path: Path) -> None:
    made = import_model(model, tmp_path / "ours")
    again = import_model(model, tmp_path / "ours")
    assert again.reused and again.digest == made.digest
    changed("model.norm.weight", torch.full((8,), 2.0))(model)
    with pytest.raises(InputError, match=r"inputs\.source"):
        import_model(model, tmp_path / "ours")
    done = CliRunner().invoke(app, ["import", str(model), "--output", str(tmp_path / "ours"), "--fresh", "--json"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ours.aside-1").is_dir()


def header(tensors: int, fields: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + rest


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(shape: tuple[int, ...], offset: int = 0, kind: int = 0) -> bytes:
    return text("t") + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


LIES = {
    "many fields": header(0, 2**60),
    "many tensors": header(2**60, 0),
    "a long name": header(0, 1, struct.pack("<Q", 2**62)),
    "an endless array": header(0, 1, text("a") + struct.pack("<IIQ", 9, 4, 2**60)),
    "an array of arrays of arrays": header(0, 1, text("a") + struct.pack("<IIQ", 9, 9, 1) * 3),
    "a large tensor": header(1, 0, tensor((2**40, 2**20))),
    "a tensor after the end": header(1, 0, tensor((8,), offset=2**40)),
    "a tensor of five dimensions": header(1, 0, tensor((1, 1, 1, 1, 1))),
    "an empty tensor": header(1, 0, tensor((0,))),
    "an odd alignment": header(0, 1, text("general.alignment") + struct.pack("<II", 4, 0)) + b"\0" * 64,
    "its end in the header": header(0, 3, text("a")),
    "no GGUF": b"PK\x03\x04" + b"\0" * 100,
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_refused_at_once(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(LIES[lie])
    with pytest.raises(InputError):
        GgufFile(path)
    done = CliRunner().invoke(app, ["import", str(path), "--output", str(tmp_path / "ours")])
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.gguf"]
