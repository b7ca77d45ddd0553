"""The options against Hugging Face's own models: tiny, with random weights, and the same logits."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.model import MODELS
from megalith.recipe import ModelConfig

transformers = pytest.importorskip("transformers", reason="the oracle, transformers, is not installed")

TOKENS, VOCAB = 24, 40
SHARED = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
          "max_position_embeddings": 32, "attn_implementation": "eager"}  # fmt: skip
GROUPED = {**SHARED, "num_key_value_heads": 2, "intermediate_size": 44, "rms_norm_eps": 1e-3}
OURS = {"vocab_size": VOCAB, "vocab_multiple": 1, "num_layers": 2, "hidden_size": 32, "num_heads": 4,
        "sequence_length": 32}  # fmt: skip
LLAMA = {**OURS, "num_kv_heads": 2, "ffn_hidden_size": 44, "positions": "rotary", "norm": "rmsnorm", "bias": False,
         "norm_epsilon": 1e-3, "activation": "swiglu", "tie_embeddings": False}  # fmt: skip
YARN = {"factor": 4.0, "beta_fast": 20.0, "beta_slow": 2.0}
BANDS = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def rope(kind: str, base: float = 100.0, **more: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": base, **more}}


BLOCKS = {
    "embed_tokens": "token_embedding", "input_layernorm": "attention_norm", "self_attn": "attention",
    "q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output", "q_norm": "query_norm",
    "k_norm": "key_norm", "post_attention_layernorm": "mlp_norm", "gate_proj": "gate", "up_proj": "up",
    "down_proj": "down", "norm": "final_norm", "lm_head": "output", "model": "",
}  # fmt: skip
NEOX = BLOCKS | {
    "embed_in": "token_embedding", "dense": "output", "dense_h_to_4h": "up", "dense_4h_to_h": "down",
    "final_layer_norm": "final_norm", "embed_out": "output", "gpt_neox": "",
}  # fmt: skip
GPT2 = {
    "wte": "token_embedding", "wpe": "position_embedding", "h": "layers", "ln_1": "attention_norm",
    "attn": "attention", "attention.c_proj": "attention.output", "ln_2": "mlp_norm", "c_fc": "up",
    "mlp.c_proj": "mlp.down", "ln_f": "final_norm", "transformer": "",
}  # fmt: skip
BERT = {
    "bert.embeddings": "", "bert.encoder.layer": "layers", "bert.pooler.dense": "heads.pooler",
    "word_embeddings": "token_embedding", "position_embeddings": "position_embedding",
    "token_type_embeddings": "token_type_embedding", "attention.self": "attention",
    "attention.output.LayerNorm": "attention_norm", "attention.output.dense": "attention.output",
    "intermediate.dense": "mlp.up", "output.dense": "mlp.down", "output.LayerNorm": "mlp_norm",
    "cls.predictions.transform.LayerNorm": "heads.norm", "cls.predictions.transform": "heads",
    "cls.predictions.bias": "heads.output_bias", "cls.seq_relationship": "heads.sentence_order",
    "LayerNorm": "embedding_norm",
}  # fmt: skip
OLMO2 = BLOCKS | {"post_attention_layernorm": "attention_norm", "post_feedforward_layernorm": "mlp_norm"}

MODELS_OF = {
    "GPT-2": ("GPT2", {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}, OURS, GPT2),
    "Llama": ("Llama", GROUPED | rope("default"), LLAMA | {"rotary_base": 100.0}, BLOCKS),
    "tied Llama with biases": (
        "Llama",
        GROUPED | rope("default") | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        LLAMA | {"rotary_base": 100.0, "bias": True, "tie_embeddings": True},
        BLOCKS,
    ),
    "Llama, linear scaling": (
        "Llama",
        GROUPED | rope("linear", factor=4.0),
        LLAMA | {"rotary_base": 100.0, "rotary_scaling": {"kind": "linear", "factor": 4}},
        BLOCKS,
    ),
    "Llama 3": (
        "Llama",
        GROUPED | rope("llama3", 500.0, **BANDS, original_max_position_embeddings=20),
        LLAMA | {"rotary_base": 500.0, "rotary_scaling": {"kind": "llama3", "factor": 8, "original_length": 20}},
        BLOCKS,
    ),
    "Llama, YaRN": (
        "Llama",
        GROUPED | rope("yarn", 500.0, **YARN, original_max_position_embeddings=64),
        LLAMA | {"rotary_base": 500.0, "rotary_scaling": {"kind": "yarn", "original_length": 64, **YARN}},
        BLOCKS,
    ),
    "Llama, YaRN with its factor": (
        "Llama",
        GROUPED | rope("yarn", 500.0, factor=2.0, attention_factor=1.5, original_max_position_embeddings=16),
        LLAMA | {"rotary_base": 500.0, "rotary_scaling": {"kind": "yarn", "factor": 2, "original_length": 16,
                                                          "attention_factor": 1.5}},
        BLOCKS,
    ),
    "Mistral": (
        "Mistral",
        GROUPED | rope("default") | {"sliding_window": 7, "head_dim": 16},
        LLAMA | {"rotary_base": 100.0, "sliding_window": 7, "head_size": 16},
        BLOCKS,
    ),
    "Qwen2": ("Qwen2", GROUPED | rope("default"), LLAMA | {"rotary_base": 100.0, "qkv_bias": True}, BLOCKS),
    "Qwen3": (
        "Qwen3",
        GROUPED | rope("default") | {"head_dim": 16},
        LLAMA | {"rotary_base": 100.0, "query_key_norm": "head", "head_size": 16},
        BLOCKS,
    ),
    "OLMo 2": (
        "Olmo2",
        GROUPED | rope("default"),
        LLAMA | {"rotary_base": 100.0, "query_key_norm": "whole", "layer_norm": "reordered"},
        OLMO2,
    ),
    "GPT-NeoX": (
        "GPTNeoX",
        SHARED | {"intermediate_size": 64} | rope("default", partial_rotary_factor=0.25),
        OURS | {"positions": "rotary", "rotary_base": 100.0, "rotary_fraction": 0.25, "parallel_residual": True,
                "ffn_hidden_size": 64, "activation": "gelu_exact", "tie_embeddings": False},
        NEOX,
    ),
    "GPT-NeoX, one after the other": (
        "GPTNeoX",
        SHARED | {"intermediate_size": 64, "use_parallel_residual": False, "hidden_act": "gelu_new"}
        | rope("default", partial_rotary_factor=0.5),
        OURS | {"positions": "rotary", "rotary_base": 100.0, "rotary_fraction": 0.5, "ffn_hidden_size": 64,
                "tie_embeddings": False},
        NEOX,
    ),
    "BERT": (
        "Bert",
        SHARED | {"intermediate_size": 64, "layer_norm_eps": 1e-12},
        OURS | {"family": "bert", "layer_norm": "post", "activation": "gelu_exact", "norm_epsilon": 1e-12,
                "ffn_hidden_size": 64},
        BERT,
    ),
}  # fmt: skip


def renamed(weights: dict[str, Tensor], names: dict[str, str], heads: int) -> Iterator[tuple[str, Tensor]]:
    """Their weights by our names: fused projections are taken apart, GPT-2's matrices turned."""
    for name, value in weights.items():
        for theirs, ours in names.items():
            name = re.sub(rf"(^|\.){re.escape(theirs)}(?=\.)", rf"\1{ours}", f"{name}.")[:-1].strip(".")
        fused = re.search(r"(c_attn|query_key_value)", name)
        if name.endswith(("c_attn.weight", "output.weight", "up.weight", "down.weight")) and "wte" in str(names):
            value = value.T
        if fused is None:
            yield name, value
        else:
            if fused[1] == "query_key_value":  # head by head: its query, its key, its value
                parts = value.unflatten(0, (heads, 3, -1)).unbind(1)
                parts = tuple(part.flatten(0, 1) for part in parts)
            else:
                parts = value.chunk(3)
            for part, own in zip(parts, ("query", "key", "value"), strict=True):
                yield name.replace(fused[1], own), part


@pytest.mark.parametrize("name", MODELS_OF)
def test_logits_are_those_of_transformers(name: str) -> None:
    kind, theirs, ours, names = MODELS_OF[name]
    architecture = {"Bert": "ForPreTraining", "GPT2": "LMHeadModel"}.get(kind, "ForCausalLM")
    config = getattr(transformers, f"{kind}Config")(**theirs)
    oracle = getattr(transformers, kind + architecture)(config).eval()
    random = torch.Generator().manual_seed(2)
    for parameter in oracle.parameters():
        parameter.data.normal_(0.0, 0.3, generator=random)
    model = MODELS[ours.get("family", "gpt")](ModelConfig.model_validate(ours)).eval()
    load(model, dict(renamed(dict(oracle.named_parameters()), names, 4)))
    tokens = torch.randint(VOCAB, (2, TOKENS), generator=random)
    with torch.no_grad():
        if kind == "Bert":
            check_bert(model, oracle, tokens)
            return
        close(model(tokens), oracle(input_ids=tokens).logits)
        places = torch.stack([torch.arange(5, 5 + TOKENS), torch.arange(TOKENS)])
        close(features_logits(model, tokens, places), oracle(input_ids=tokens, position_ids=places).logits)


def load(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    wanted = {name for name, _ in model.named_parameters()}
    assert weights.keys() == wanted, weights.keys() ^ wanted
    model.load_state_dict(weights, strict=False)


def features_logits(model: Any, tokens: Tensor, places: Tensor) -> Tensor:
    return model.features(tokens, places) @ model.output_weight.T


def check_bert(model: Any, oracle: Callable[..., Any], tokens: Tensor) -> None:
    segments, lengths = (torch.arange(TOKENS) > 9).long().expand(2, -1), torch.tensor([TOKENS, 15])
    seen = (torch.arange(TOKENS) < lengths[:, None]).long()
    expected = oracle(input_ids=tokens, token_type_ids=segments, attention_mask=seen)
    logits, order = model(tokens, segments=segments, lengths=lengths)
    close(logits[0], expected.prediction_logits[0])
    close(logits[1, :15], expected.prediction_logits[1, :15])
    close(order, expected.seq_relationship_logits)


def close(found: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the largest logit, in fp32."""
    assert found.dtype == expected.dtype == torch.float32
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
