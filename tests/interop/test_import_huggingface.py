"""A Hugging Face directory becomes the same model here, or is refused with its key."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from megalith.errors import UnsupportedError
from megalith.inference import load_model
from megalith.interop.importing import import_model
from megalith.model import BERT
from megalith.recipe import ModelConfig
from tests.interop import oracle

transformers = pytest.importorskip("transformers", reason="transformers is what imports are compared with")

IDS = torch.arange(96).reshape(2, 48).mul(7).add(11).remainder(oracle.VOCAB)


def close(found: Tensor, wanted: Tensor) -> bool:
    """Whether logits differ by less than 1e-4 of the largest."""
    return float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())


def ours(directory: Path, ids: Tensor) -> Tensor:
    """The logits of an imported model over the tokens of its vocabulary."""
    lm = load_model(directory)
    with torch.no_grad():
        found = lm.model(ids)
    assert isinstance(found, Tensor)
    return found[..., : lm.config.vocab_size]


@pytest.mark.parametrize("case", oracle.CAUSAL, ids=str)
def test_logits_and_greedy_tokens_are_those_of_transformers(case: oracle.Case, tmp_path: Path) -> None:
    model = oracle.make(case, tmp_path / "theirs")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    wanted = oracle.logits(model, IDS)
    assert made.facts["parameters"] >= sum(each.numel() for each in model.parameters())  # the vocabulary is padded
    assert close(ours(made.path, IDS), wanted)
    known = IDS[0, :8].tolist()
    lm = load_model(made.path)
    for token in oracle.greedy(model, known, 24):
        with torch.no_grad():
            assert int(lm.model(torch.tensor([known]))[0, -1].argmax()) == token
        known.append(token)


@pytest.mark.parametrize("case", oracle.BERTS, ids=str)
def test_both_heads_of_a_bert_are_those_of_transformers(case: oracle.Case, tmp_path: Path) -> None:
    model = oracle.make(case, tmp_path / "theirs")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    config = ModelConfig.model_validate(json.loads((made.path / "model" / "config.json").read_text()))
    bert = BERT(config).eval()
    bert.load_state_dict(load_file(made.path / "model" / "model.safetensors"), strict=False)
    segments, lengths = (IDS > 200).long(), torch.tensor([48, 31])
    mask = torch.arange(48) < lengths[:, None]
    with torch.no_grad():
        tokens, order = bert(IDS, segments=segments, lengths=lengths)
        wanted = model(input_ids=IDS, token_type_ids=segments, attention_mask=mask.long())
    assert close(tokens[..., : config.vocab_size][mask], wanted.prediction_logits[mask])
    assert close(order, wanted.seq_relationship_logits)


def test_shards_and_bf16_are_read_as_one_file_in_fp32_is(tmp_path: Path) -> None:
    case = oracle.CAUSAL[3]
    oracle.make(case, tmp_path / "whole")
    model = oracle.make(case, tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    one, other = (import_model(tmp_path / name, tmp_path / f"{name}-ours") for name in ("whole", "shards"))
    files = [made.path / "model" / "model.safetensors" for made in (one, other)]
    assert files[0].read_bytes() == files[1].read_bytes()
    model.to(torch.bfloat16).save_pretrained(tmp_path / "narrow")
    oracle.save_tokenizer(tmp_path / "narrow")
    narrow = import_model(tmp_path / "narrow", tmp_path / "narrow-ours")
    assert (narrow.path / "model" / "model.safetensors").stat().st_size < 0.6 * files[0].stat().st_size
    wide = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "narrow", dtype=torch.float32)
    assert close(ours(narrow.path, IDS), oracle.logits(wide, IDS))


def test_the_names_of_old_files_are_taken(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    oracle.make(oracle.CAUSAL[0], tmp_path / "new")
    oracle.make(oracle.CAUSAL[0], tmp_path / "old")
    file = tmp_path / "old" / "model.safetensors"
    weights = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    weights = {name.replace("ln_1.weight", "ln_1.gamma"): tensor for name, tensor in weights.items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    save_file(weights, file)
    new, old = (import_model(tmp_path / name, tmp_path / f"{name}-ours") for name in ("new", "old"))
    one, other = (made.path / "model" / "model.safetensors" for made in (new, old))
    assert one.read_bytes() == other.read_bytes()


def test_a_bert_without_its_second_head_gets_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = oracle.make(oracle.BERTS[0], tmp_path / "theirs")
    alone = transformers.BertForMaskedLM(model.config)
    alone.save_pretrained(tmp_path / "theirs")
    made = import_model(tmp_path / "theirs", tmp_path / "ours")
    assert "heads.pooler.weight" in capsys.readouterr().err
    assert load_file(made.path / "model" / "model.safetensors")["heads.pooler.weight"].std() > 0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, "model_type: mixtral"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.py--Model"}}, "auto_map"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "rope_scaling.rope_type"),
        ({"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.rope_type"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "mscale": 0.7}}, "rope_scaling.mscale"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
    ],
    ids=str,
)
def test_what_cannot_be_held_is_refused_with_its_key(changes: dict[str, Any], key: str, tmp_path: Path) -> None:
    oracle.make(oracle.CAUSAL[3], tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UnsupportedError, match=key.replace(": ", r": ?\S*")):
        import_model(tmp_path / "theirs", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_key_whose_meaning_is_unknown_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oracle.make(oracle.CAUSAL[3], tmp_path / "theirs")
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"of_the_future": 3}))
    import_model(tmp_path / "theirs", tmp_path / "ours")
    assert "of_the_future" in capsys.readouterr().err
