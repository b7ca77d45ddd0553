"""An export loads in transformers without a word, computes the same, and comes from any layout as from one."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from megalith.errors import UnsupportedError
from megalith.inference import load_model
from megalith.interop.exporting import export_model
from megalith.interop.importing import import_model
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from tests.inference.models import write_model
from tests.interop import oracle

transformers = pytest.importorskip("transformers", reason="transformers is what exports are loaded with")

IDS = torch.arange(96).reshape(2, 48).mul(7).add(11).remainder(oracle.VOCAB)


def loaded(directory: Path, kind: str = "AutoModelForCausalLM") -> object:
    """The model as transformers loads it; a word about a key that is missing or unexpected is an error."""
    model, told = getattr(transformers, kind).from_pretrained(
        directory, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(told.values()), told
    return model.eval()


@pytest.mark.parametrize("case", oracle.CAUSAL, ids=str)
def test_what_was_imported_goes_out_as_it_came(case: oracle.Case, tmp_path: Path) -> None:
    theirs = oracle.make(case, tmp_path / "theirs")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    out = export_model(made.path, tmp_path / "out", "hf")
    back, first = load_file(out.path / "model.safetensors"), load_file(tmp_path / "theirs" / "model.safetensors")
    assert back.keys() == first.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in first.items())
    with torch.no_grad():
        assert torch.equal(loaded(out.path)(input_ids=IDS).logits, oracle.logits(theirs, IDS))


@pytest.mark.parametrize("case", oracle.BERTS, ids=str)
def test_a_bert_goes_out_as_it_came(case: oracle.Case, tmp_path: Path) -> None:
    theirs = oracle.make(case, tmp_path / "theirs")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    model = loaded(export_model(made.path, tmp_path / "out", "hf").path, "AutoModelForPreTraining")
    with torch.no_grad():
        found, wanted = model(input_ids=IDS), theirs(input_ids=IDS)
    assert torch.equal(found.prediction_logits, wanted.prediction_logits)
    assert torch.equal(found.seq_relationship_logits, wanted.seq_relationship_logits)


OURS = {
    "gpt2": {},
    "gpt2 without biases": {"bias": False},
    "llama": {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "num_kv_heads": 2},
    "neox": {"positions": "rotary", "rotary_fraction": 0.5},
    "untied": {"tie_embeddings": False, "activation": "gelu_exact"},
}


@pytest.mark.parametrize("kind", OURS)
def test_a_model_trained_here_writes_the_same_text_in_transformers(kind: str, tmp_path: Path) -> None:
    home = write_model(tmp_path / "model")
    config = ModelConfig(
        num_layers=2, hidden_size=32, num_heads=4, vocab_size=oracle.VOCAB, sequence_length=80, init_std=0.3,
        **OURS[kind],
    )  # fmt: skip
    model = GPT(config)
    initialise(model, config, seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05 if parameter.ndim == 1 else 0)
    from safetensors.torch import save_file

    save_file({name: each.detach() for name, each in model.named_parameters()}, home / "model.safetensors")
    (home / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    out = export_model(home, tmp_path / "out", "hf")
    lm, theirs = load_model(home), loaded(out.path)
    with torch.no_grad():
        found, wanted = theirs(input_ids=IDS).logits, lm.model(IDS)[..., : config.vocab_size]
    assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    tokenizer = transformers.AutoTokenizer.from_pretrained(out.path)
    known = tokenizer("The nurse")["input_ids"]
    assert known == lm.tokenizer.with_prefix(lm.tokenizer.encode("The nurse"))
    written = oracle.greedy(theirs, known, 64)
    for token in written:
        with torch.no_grad():
            assert int(lm.model(torch.tensor([known]))[0, -1].argmax()) == token
        known.append(token)
    assert tokenizer.decode(written) == lm.tokenizer.decode(written)


def test_shards_and_narrow_types_hold_the_same(tmp_path: Path) -> None:
    from megalith.artifacts import Workspace
    from megalith.interop.checkpoint import open_checkpoint
    from megalith.interop.to_huggingface import write_huggingface

    home = write_model(tmp_path / "model")
    (tmp_path / "shards").mkdir()
    told = write_huggingface(open_checkpoint(home), Workspace(tmp_path / "shards"), "F32", shard_bytes=20_000)
    assert len(told["weights"]) > 2
    whole = loaded(export_model(home, tmp_path / "whole", "hf").path)
    with torch.no_grad():
        wanted = whole(input_ids=IDS[:, :32]).logits
        assert torch.equal(loaded(tmp_path / "shards")(input_ids=IDS[:, :32]).logits, wanted)
    narrow = export_model(home, tmp_path / "narrow", "hf", ["BF16"])
    tensors = load_file(narrow.path / "model.safetensors")
    assert {each.dtype for each in tensors.values()} == {torch.bfloat16}
    assert json.loads((narrow.path / "config.json").read_text())["torch_dtype"] == "bfloat16"


def test_the_chat_template_goes_through(tmp_path: Path) -> None:
    oracle.make(oracle.CAUSAL[3], tmp_path / "theirs")
    template = "{% for m in messages %}<|endoftext|>{{ m['content'] }}{% endfor %}"
    (tmp_path / "theirs" / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    out = export_model(made.path, tmp_path / "out", "hf")
    tokenizer = transformers.AutoTokenizer.from_pretrained(out.path)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=True, return_dict=False)
    lm = load_model(made.path)
    assert lm.tokenizer.conventions.chat_template == template
    assert ids == lm.tokenizer.encode_with_specials("<|endoftext|>Hi") == [0, *lm.tokenizer.encode("Hi")]


def test_the_card_says_what_is_known(tmp_path: Path) -> None:
    oracle.make(oracle.CAUSAL[3], tmp_path / "theirs")
    (tmp_path / "theirs" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    assert (made.path / "source" / "README.md").is_file()
    card = (export_model(made.path, tmp_path / "out", "hf").path / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "transformers"
    assert "Imported from theirs" in card


def test_a_model_that_no_family_holds_is_refused_with_the_field(tmp_path: Path) -> None:
    home = write_model(tmp_path / "model")
    config = json.loads((home / "config.json").read_text()) | {"norm": "rmsnorm"}
    (home / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match="gpt2 comes nearest, and cannot have norm: rmsnorm"):
        export_model(home, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def test_numbers_beyond_f16_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    home = write_model(tmp_path / "model")
    weights = load_file(home / "model.safetensors")
    weights["final_norm.weight"][0] = 1e6
    save_file(weights, home / "model.safetensors")
    with pytest.raises(UnsupportedError, match="Use --type BF16"):
        export_model(home, tmp_path / "out", "hf", ["F16"])
    assert not (tmp_path / "out").exists()
