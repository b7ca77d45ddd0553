"""Random models of transformers, saved as it saves them, with a small tokenizer: what imports are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tests.inference.models import PROSE

VOCAB = 400
SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "vocab_size": VOCAB, "initializer_range": 0.3,
}  # fmt: skip
GROUPED = {**SMALL, "num_key_value_heads": 2}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": VOCAB, "initializer_range": 0.3}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}


@dataclass(frozen=True)
class Case:
    """A shape of a family."""

    name: str
    config: str
    """Its class in transformers."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


CAUSAL = (
    Case("gpt2", "GPT2Config", GPT2),
    Case("gpt2-exact-gelu-narrow-untied", "GPT2Config", {
        **GPT2, "activation_function": "gelu", "n_inner": 40, "tie_word_embeddings": False, "layer_norm_epsilon": 1e-3,
    }),
    Case("llama", "LlamaConfig", SMALL),
    Case("llama-grouped-tied", "LlamaConfig", {**GROUPED, "tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    Case("llama-biases-wide-heads", "LlamaConfig", {
        **GROUPED, "attention_bias": True, "mlp_bias": True, "head_dim": 16,
    }),
    Case("llama3-scaled", "LlamaConfig", {**GROUPED, "rope_parameters": LLAMA3}),
    Case("llama-linear", "LlamaConfig", {
        **SMALL, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0},
    }),
    Case("llama-yarn", "LlamaConfig", {**SMALL, "rope_parameters": YARN}),
    Case("mistral", "MistralConfig", {**GROUPED, "sliding_window": None}),
    Case("mistral-window", "MistralConfig", {**GROUPED, "sliding_window": 8}),
    Case("qwen2", "Qwen2Config", GROUPED),
    Case("qwen2-tied-window", "Qwen2Config", {
        **GROUPED, "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0,
    }),
    Case("qwen3", "Qwen3Config", {**GROUPED, "head_dim": 16}),
    Case("qwen3-tied", "Qwen3Config", {**GROUPED, "head_dim": 8, "tie_word_embeddings": True}),
    Case("olmo2", "Olmo2Config", SMALL),
    Case("olmo2-grouped-tied", "Olmo2Config", {**GROUPED, "tie_word_embeddings": True}),
    Case("pythia", "GPTNeoXConfig", SMALL),
    Case("neox-serial-tanh-tied", "GPTNeoXConfig", {
        **SMALL, "use_parallel_residual": False, "hidden_act": "gelu_new", "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0},
    }),
)  # fmt: skip
BERTS = (
    Case("bert", "BertConfig", SMALL),
    Case("bert-tanh", "BertConfig", {**SMALL, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3}),
    Case("megatron-bert", "MegatronBertConfig", SMALL),
)


def make(case: Case, directory: Path, **saving: Any) -> Any:
    """The random model of a case, saved in `directory` with a tokenizer; every parameter is random, norms as well."""
    import transformers

    torch.manual_seed(len(case.name))
    config = getattr(transformers, case.config)(bos_token_id=0, eos_token_id=0, pad_token_id=0, **case.settings)
    kind = transformers.AutoModelForPreTraining if "Bert" in case.config else transformers.AutoModelForCausalLM
    model = kind.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory, **saving)
    save_tokenizer(directory)
    return model


def save_tokenizer(directory: Path, prefix: bool = False) -> tokenizers.Tokenizer:
    """A byte-level BPE whose end of text is 0."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 3,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(PROSE * 3, trainer)
    model.save(str(directory / "tokenizer.json"))
    return model


@torch.no_grad()
def logits(model: Any, ids: Tensor) -> Tensor:
    """The logits (B, T, V) of a causal model of transformers."""
    found: Tensor = model(input_ids=ids).logits
    return found


@torch.no_grad()
def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The most likely tokens after `ids`, by a model of transformers, whatever ends a text."""
    known = list(ids)
    for _ in range(count):
        known.append(int(model(input_ids=torch.tensor([known])).logits[0, -1].argmax()))
    return known[len(ids) :]
