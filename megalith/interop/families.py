"""The families of models that Hugging Face directories may hold, each a few lines of data.

Names and defaults are those of transformers 5.24 (`configuration_*.py`, `modeling_*.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from megalith.interop.entries import Entry, fused, linear
from megalith.interop.family import Family

_SHAPE = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "ffn_hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "max_position_embeddings": "sequence_length",
    "initializer_range": "init_std",
}
_GROUPED = {**_SHAPE, "num_key_value_heads": "num_kv_heads", "rms_norm_eps": "norm_epsilon"}
_TIED = {"tie_word_embeddings": "tie_embeddings"}
_SILU = {"silu": "swiglu", "swish": "swiglu"}
_GELU = {"gelu": "gelu_exact", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu"}
_LLAMA_LIKE: Mapping[str, Any] = {"family": "gpt", "positions": "rotary", "norm": "rmsnorm", "bias": False}
_UNTIED = {"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048}

_L = "model.layers.{n}."
_EMBEDDING = (
    Entry("model.embed_tokens.weight", ("token_embedding.weight",), padded=True),
    Entry("lm_head.weight", ("output.weight",), padded=True),
    *linear("model.norm", "final_norm"),
)
_PROJECTIONS = (
    *linear(f"{_L}self_attn.q_proj", "layers.{n}.attention.query"),
    *linear(f"{_L}self_attn.k_proj", "layers.{n}.attention.key"),
    *linear(f"{_L}self_attn.v_proj", "layers.{n}.attention.value"),
    *linear(f"{_L}self_attn.o_proj", "layers.{n}.attention.output"),
    *linear(f"{_L}self_attn.q_norm", "layers.{n}.attention.query_norm"),
    *linear(f"{_L}self_attn.k_norm", "layers.{n}.attention.key_norm"),
    *linear(f"{_L}mlp.gate_proj", "layers.{n}.mlp.gate"),
    *linear(f"{_L}mlp.up_proj", "layers.{n}.mlp.up"),
    *linear(f"{_L}mlp.down_proj", "layers.{n}.mlp.down"),
)
_PRE_NORMS = (
    *linear(f"{_L}input_layernorm", "layers.{n}.attention_norm"),
    *linear(f"{_L}post_attention_layernorm", "layers.{n}.mlp_norm"),
)
_LLAMA_ENTRIES = (*_EMBEDDING, *_PRE_NORMS, *_PROJECTIONS)
_ANGLES = (r".*rotary_emb\.(inv_freq|cos_cached|sin_cached)",)

LLAMA = Family(
    name="llama",
    architectures=("LlamaForCausalLM",),
    fields={**_GROUPED, **_TIED, "head_dim": "head_size"},
    activations=_SILU,
    fixed=_LLAMA_LIKE,
    defaults=_UNTIED,
    biases={"attention_bias": "attention", "mlp_bias": "mlp"},
    rotary="llama",
    entries=_LLAMA_ENTRIES,
    base_prefix="model.",
    unused=_ANGLES,
)
MISTRAL = Family(
    name="mistral",
    architectures=("MistralForCausalLM",),
    fields={**_GROUPED, **_TIED, "head_dim": "head_size"},
    activations=_SILU,
    fixed=_LLAMA_LIKE,
    defaults={**_UNTIED, "num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
    rotary="llama",
    window="always",
    entries=_LLAMA_ENTRIES,
    base_prefix="model.",
    unused=_ANGLES,
)
QWEN2 = Family(
    name="qwen2",
    architectures=("Qwen2ForCausalLM",),
    fields={**_GROUPED, **_TIED},
    activations=_SILU,
    fixed={**_LLAMA_LIKE, "qkv_bias": True},
    defaults={**_UNTIED, "num_key_value_heads": 32, "max_position_embeddings": 32768, "max_window_layers": 28},
    must={"head_dim": None},
    rotary="llama",
    window="switched",
    entries=_LLAMA_ENTRIES,
    base_prefix="model.",
    unused=_ANGLES,
)
QWEN3 = Family(
    name="qwen3",
    architectures=("Qwen3ForCausalLM",),
    fields={**_GROUPED, **_TIED, "head_dim": "head_size"},
    activations=_SILU,
    fixed={**_LLAMA_LIKE, "query_key_norm": "head"},
    defaults={
        **_UNTIED,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
    },
    must={"attention_bias": False},
    rotary="llama",
    window="switched",
    entries=_LLAMA_ENTRIES,
    base_prefix="model.",
    unused=_ANGLES,
)
OLMO2 = Family(
    name="olmo2",
    architectures=("Olmo2ForCausalLM",),
    fields={**_GROUPED, **_TIED},
    activations=_SILU,
    fixed={**_LLAMA_LIKE, "layer_norm": "reordered", "query_key_norm": "whole"},
    defaults={**_UNTIED, "rms_norm_eps": 1e-5},
    must={"attention_bias": False, "head_dim": None},
    rotary="llama",
    entries=(
        *_EMBEDDING,
        *linear(f"{_L}post_attention_layernorm", "layers.{n}.attention_norm"),
        *linear(f"{_L}post_feedforward_layernorm", "layers.{n}.mlp_norm"),
        *_PROJECTIONS,
    ),
    base_prefix="model.",
    unused=_ANGLES,
)

_X = "gpt_neox.layers.{n}."
GPT_NEOX = Family(
    name="gpt_neox",
    architectures=("GPTNeoXForCausalLM",),
    fields={**_SHAPE, **_TIED, "layer_norm_eps": "norm_epsilon", "use_parallel_residual": "parallel_residual"},
    activations=_GELU,
    fixed={"family": "gpt", "norm": "layernorm", "bias": True},
    defaults={"tie_word_embeddings": False, "use_parallel_residual": True, "layer_norm_eps": 1e-5},
    must={"attention_bias": True},
    rotary="neox",
    entries=(
        Entry("gpt_neox.embed_in.weight", ("token_embedding.weight",), padded=True),
        Entry("embed_out.weight", ("output.weight",), padded=True),
        *linear("gpt_neox.final_layer_norm", "final_norm"),
        *linear(f"{_X}input_layernorm", "layers.{n}.attention_norm"),
        *linear(f"{_X}post_attention_layernorm", "layers.{n}.mlp_norm"),
        *fused(f"{_X}attention.query_key_value", by_head=True),
        *linear(f"{_X}attention.dense", "layers.{n}.attention.output"),
        *linear(f"{_X}mlp.dense_h_to_4h", "layers.{n}.mlp.up"),
        *linear(f"{_X}mlp.dense_4h_to_h", "layers.{n}.mlp.down"),
    ),
    base_prefix="gpt_neox.",
    unused=(*_ANGLES, r".*attention\.(bias|masked_bias)"),
)

_H = "transformer.h.{n}."
GPT2 = Family(
    name="gpt2",
    architectures=("GPT2LMHeadModel",),
    fields={
        "vocab_size": "vocab_size",
        "n_embd": "hidden_size",
        "n_inner": "ffn_hidden_size",
        "n_layer": "num_layers",
        "n_head": "num_heads",
        "n_positions": "sequence_length",
        "initializer_range": "init_std",
        "layer_norm_epsilon": "norm_epsilon",
        **_TIED,
    },
    activation_key="activation_function",
    activations={"gelu_new": "gelu", **_GELU},
    fixed={"family": "gpt", "positions": "learned", "norm": "layernorm", "bias": True},
    defaults={"tie_word_embeddings": True, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5},
    must={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    dropout=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    entries=(
        Entry("transformer.wte.weight", ("token_embedding.weight",), padded=True),
        Entry("transformer.wpe.weight", ("position_embedding.weight",)),
        Entry("lm_head.weight", ("output.weight",), padded=True),
        *linear("transformer.ln_f", "final_norm"),
        *linear(f"{_H}ln_1", "layers.{n}.attention_norm"),
        *linear(f"{_H}ln_2", "layers.{n}.mlp_norm"),
        *fused(f"{_H}attn.c_attn", transposed=True),
        *linear(f"{_H}attn.c_proj", "layers.{n}.attention.output", transposed=True),
        *linear(f"{_H}mlp.c_fc", "layers.{n}.mlp.up", transposed=True),
        *linear(f"{_H}mlp.c_proj", "layers.{n}.mlp.down", transposed=True),
    ),
    base_prefix="transformer.",
    unused=(r".*attn\.(bias|masked_bias)",),
)

_B = "bert.encoder.layer.{n}."
_BERT_ENTRIES = (
    Entry("bert.embeddings.word_embeddings.weight", ("token_embedding.weight",), padded=True),
    Entry("bert.embeddings.position_embeddings.weight", ("position_embedding.weight",)),
    Entry("bert.embeddings.token_type_embeddings.weight", ("token_type_embedding.weight",)),
    *linear("bert.pooler.dense", "heads.pooler"),
    *linear("cls.seq_relationship", "heads.sentence_order"),
    *linear("cls.predictions.transform.dense", "heads.dense"),
    *linear("cls.predictions.transform.LayerNorm", "heads.norm"),
    Entry("cls.predictions.bias", ("heads.output_bias",), padded=True),
    Entry("cls.predictions.decoder.weight", ("output.weight",), padded=True),
    *linear(f"{_B}attention.self.query", "layers.{n}.attention.query"),
    *linear(f"{_B}attention.self.key", "layers.{n}.attention.key"),
    *linear(f"{_B}attention.self.value", "layers.{n}.attention.value"),
    *linear(f"{_B}attention.output.dense", "layers.{n}.attention.output"),
    *linear(f"{_B}intermediate.dense", "layers.{n}.mlp.up"),
    *linear(f"{_B}output.dense", "layers.{n}.mlp.down"),
)
BERT = Family(
    name="bert",
    architectures=("BertForPreTraining", "BertForMaskedLM"),
    fields={**_SHAPE, **_TIED, "layer_norm_eps": "norm_epsilon"},
    activations=_GELU,
    fixed={"family": "bert", "norm": "layernorm", "bias": True, "layer_norm": "post"},
    defaults={"tie_word_embeddings": True, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    must={
        "type_vocab_size": 2,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    dropout=("hidden_dropout_prob", "attention_probs_dropout_prob"),
    entries=(
        *_BERT_ENTRIES,
        *linear("bert.embeddings.LayerNorm", "embedding_norm"),
        *linear(f"{_B}attention.output.LayerNorm", "layers.{n}.attention_norm"),
        *linear(f"{_B}output.LayerNorm", "layers.{n}.mlp_norm"),
    ),
    unused=(r".*embeddings\.position_ids", r"cls\.predictions\.decoder\.bias"),
    may_lack=("heads.pooler.", "heads.sentence_order."),
)
MEGATRON_BERT = replace(
    BERT,
    name="megatron-bert",
    architectures=("MegatronBertForPreTraining", "MegatronBertForMaskedLM"),
    fixed={**BERT.fixed, "layer_norm": "pre"},
    entries=(
        *_BERT_ENTRIES,
        *linear("bert.encoder.ln", "final_norm"),
        *linear(f"{_B}attention.ln", "layers.{n}.attention_norm"),
        *linear(f"{_B}ln", "layers.{n}.mlp_norm"),
    ),
)

FAMILIES = (LLAMA, MISTRAL, QWEN2, QWEN3, OLMO2, GPT_NEOX, GPT2, BERT, MEGATRON_BERT)
BY_NAME = {family.name: family for family in FAMILIES}
