"""Parameters, FLOPs and bytes of a model: the exact formulas, each with its source.

Counts are those of the model as it is built: the vocabulary is padded, in the parameters and in the FLOPs alike, since
the padded rows are multiplied too. FLOPs count matrix products only (a multiplication and an addition are two), and
attention as if it were not causal, as Megatron-LM counts it (2104.04473, appendix). How the counts are spread over
ranks is not said here.
"""

from dataclasses import dataclass
from typing import Literal

from megalith.recipe.model import ModelConfig

WEIGHT_BYTES = 4  # fp32 weights, whatever the precision of the matrix products
GRADIENT_BYTES = 4
OPTIMIZER_BYTES = 8  # Adam's two moments in fp32
TOKEN_TYPES = 2  # BERT's segment A and segment B
GRADIENT_BUCKET = 2**23  # gradients that data-parallel ranks sum at a time, beside the backward pass: 32 MiB
LOSS_ROWS = 256  # tokens whose logits are held at once on a CPU: they stay in its caches; 2,048 take 1.7 times as long
_LOSS_LOGITS_ON_A_GPU = 2**28  # at once: the sums over few tokens would cost more than their products


@dataclass(frozen=True)
class ParameterCount:
    """Parameters of a model by place; shared weights are counted once."""

    token_embedding: int
    position_embedding: int
    """BERT's token types among them."""
    layers: int
    """All layers together."""
    final_norm: int
    """For a post-norm BERT: the norm after the embedding."""
    output_projection: int
    """0 where it shares the token embedding."""
    heads: int
    """BERT's pooler, sentence-order head and masked-token head."""

    @property
    def total(self) -> int:
        return self.non_embedding + self.token_embedding + self.position_embedding + self.output_projection

    @property
    def non_embedding(self) -> int:
        """Parameters without the tables of vocabulary and positions (Kaplan et al., 2001.08361 §2.1)."""
        return self.layers + self.final_norm + self.heads


def parameters(model: ModelConfig) -> ParameterCount:
    """The parameters of `model`, exactly as `megalith.model` builds it.

    A model ends in a norm, but for a post-norm one (its last layer ends in one); a post-norm BERT has one after the
    embedding, as the original. An output projection of its own has no bias. Transformer-XL's
    relative positions (1901.02860) have, in each layer, one projection of the position encodings (hidden × heads, no
    bias) and two vectors u and v as wide as all heads; they are not shared between layers.
    """
    hidden, vocab, norm = model.hidden, model.padded_vocab_size, _norm(model)
    bert = model.family == "bert"
    learned = model.sequence_length * hidden if model.positions == "learned" else 0
    return ParameterCount(
        token_embedding=vocab * hidden,
        position_embedding=learned + (TOKEN_TYPES * hidden if bert else 0),
        layers=model.layers * _layer(model) + _experts_beyond_dense_mlps(model),
        final_norm=norm if model.ends_in_norm or bert else 0,
        output_projection=0 if model.tie_embeddings else vocab * hidden,
        heads=_bert_heads(model) if bert else 0,
    )


def active_parameters(model: ModelConfig) -> int:
    """Parameters that one token meets: all of a dense model; of a mixture, the router, its own and shared experts."""
    if not model.experts:
        return parameters(model).total
    idle = model.experts - model.experts_per_token
    return parameters(model).total - model.expert_layers * idle * _mlp(model, model.expert_hidden)


def flops_per_token(model: ModelConfig, recompute: Literal["none", "full"] = "none") -> float:
    """FLOPs of training on one token: forward, and backward at twice the forward.

    For a GPT with GELU, a 4h MLP and as many key heads as query heads this is Megatron-LM's 72·L·h²·(1 + s/6h + V/12Lh)
    (2104.04473, appendix; 2205.05198 §3). `recompute="full"` adds one forward pass of the layers, not of the logits:
    96·L·h²·(1 + s/6h + V/16Lh).
    """
    layers = model.layers * layer_forward_flops(model)
    forward = layers + head_forward_flops(model)
    return 3 * forward + (layers if recompute == "full" else 0)


def step_flops(model: ModelConfig, sequences: int) -> float:
    """FLOPs of one optimizer step over `sequences` sequences of full length."""
    return flops_per_token(model) * sequences * model.sequence_length


def layer_forward_flops(model: ModelConfig) -> float:
    """Forward FLOPs of one layer for one token.

    Projections 2·(2h·d·(a + kv) + g·h·f) with heads of size d, g = 3 for a gated MLP and 2 without; scores and weighted
    sum 4·s·a·d, and 2·s·a·d more for the scores against relative positions (whose encodings are projected once for all
    sequences, and not counted). With a sliding window s is `attended_tokens`. A mixture of experts counts the experts
    that a token meets and its router, as the mean of all layers.
    """
    products = 2.0 * (_attention_matrix(model) + _mlp_matrix(model))
    if model.experts:
        products += 2 * (_expert_matrices_met(model) - _mlp_matrix(model)) * model.expert_layers / model.layers
    attention = (6 if model.positions == "relative" else 4) * attended_tokens(model) * model.query_width
    return float(products + attention)


def attended_tokens(model: ModelConfig) -> float:
    """The mean number of tokens that a token looks at, counted as if attention were not causal.

    The whole sequence; with a sliding window of w, the band of the w − 1 tokens on either side and the token itself.
    """
    length = model.sequence_length
    beside = min(model.sliding_window or length, length) - 1
    return (length * (2 * beside + 1) - beside * (beside + 1)) / length


def head_forward_flops(model: ModelConfig) -> float:
    """Forward FLOPs of the logits for one token, at the padded vocabulary; for a BERT, of the dense layer before them.

    BERT's pooler and sentence-order head act on one token of each sequence and are not counted.
    """
    dense = 2 * model.hidden**2 if model.family == "bert" else 0
    return float(2 * model.hidden * model.padded_vocab_size + dense)


def loss_rows_on_a_gpu(vocab_size: int) -> int:
    """Tokens whose logits the cross entropy holds at once on a GPU."""
    return max(LOSS_ROWS, _LOSS_LOGITS_ON_A_GPU // vocab_size)


def state_bytes(model: ModelConfig) -> int:
    """Bytes that one process holds for the whole of training: fp32 weights, gradients and Adam's moments."""
    return parameters(model).total * (WEIGHT_BYTES + GRADIENT_BYTES + OPTIMIZER_BYTES)


def kv_cache_bytes(model: ModelConfig, tokens: int, number_bytes: int = WEIGHT_BYTES) -> int:
    """Bytes of the keys and values of one sequence of so many tokens, as generation holds them.

    2 × layers × kv_heads × head_dim × bytes of a number × tokens, with a sliding window no more tokens than it sees.
    """
    held = tokens if model.sliding_window is None else min(tokens, model.sliding_window)
    return 2 * model.layers * model.kv_heads * model.head_dim * number_bytes * held


def _layer(model: ModelConfig) -> int:
    """Parameters of one layer."""
    hidden, ffn = model.hidden, model.ffn_hidden
    into_ffn = 2 * ffn if model.activation == "swiglu" else ffn
    biases = hidden + into_ffn + hidden if model.bias else 0
    qkv_biases = model.query_width + 2 * model.kv_width if model.has_qkv_bias else 0
    relative = (hidden + 2) * model.query_width if model.positions == "relative" else 0
    norms = 2 * _norm(model) + query_key_norm_parameters(model)
    return _attention_matrix(model) + _mlp_matrix(model) + biases + qkv_biases + relative + norms


def query_key_norm_parameters(model: ModelConfig) -> int:
    """Weights of the RMSNorms on queries and keys of one layer."""
    return {"none": 0, "head": 2 * model.head_dim, "whole": model.query_width + model.kv_width}[model.query_key_norm]


def _attention_matrix(model: ModelConfig) -> int:
    """Weights of query, key, value and output projections."""
    return 2 * model.hidden * (model.query_width + model.kv_width)


def _mlp_matrix(model: ModelConfig) -> int:
    return _matrices(model) * model.hidden * model.ffn_hidden


def _matrices(model: ModelConfig) -> int:
    return 3 if model.activation == "swiglu" else 2


def _mlp(model: ModelConfig, width: int) -> int:
    """Parameters of an MLP of this width."""
    into = 2 * width if model.activation == "swiglu" else width
    return _matrices(model) * model.hidden * width + (into + model.hidden if model.bias else 0)


def _expert_matrices_met(model: ModelConfig) -> int:
    """Weights of the products that a token meets in a layer with experts: its own, the shared ones, the router."""
    assert model.experts  # the caller's check
    met = model.experts_per_token + model.shared_experts
    return met * _matrices(model) * model.hidden * model.expert_hidden + model.hidden * model.experts


def routed_parameters(model: ModelConfig) -> int:
    """Parameters of a layer's experts that are not shared, which expert parallelism spreads; 0 without any."""
    return model.experts * _mlp(model, model.expert_hidden) if model.experts else 0


def _experts_beyond_dense_mlps(model: ModelConfig) -> int:
    """How many parameters more all layers with experts have than with dense MLPs."""
    if not model.experts:
        return 0
    shared = model.shared_experts * _mlp(model, model.expert_hidden)
    router = model.hidden * model.experts
    return model.expert_layers * (routed_parameters(model) + shared + router - _mlp(model, model.ffn_hidden))


def _norm(model: ModelConfig) -> int:
    """A LayerNorm has a bias where the model has biases; an RMSNorm never."""
    return model.hidden * (2 if model.norm == "layernorm" and model.bias else 1)


def _bert_heads(model: ModelConfig) -> int:
    """Pooler, sentence-order classifier, and dense + norm + bias of the masked-token head (1810.04805; its decoder is
    the token embedding)."""
    hidden, bias = model.hidden, int(model.bias)
    pooler = hidden * hidden + bias * hidden
    sentence_order = 2 * hidden + bias * 2
    masked = hidden * hidden + bias * hidden + _norm(model) + bias * model.padded_vocab_size
    return pooler + sentence_order + masked
