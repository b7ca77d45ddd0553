"""The keys of a `config.json` that somebody else wrote, each read once, and those that nobody has read.

A key whose value cannot be held is refused by name. Of the rest, some are known to change no model (cache, dtype,
version); others are told to the user, since nothing is left out in silence.
"""

from collections.abc import Mapping
from typing import Any

from megalith.console import note
from megalith.errors import InputError, UnsupportedError
from megalith.recipe.yaml_values import shorten

CHANGES_NOTHING = frozenset(
    """
    _attn_implementation _commit_hash _from_model_config _model_name_or_path _name_or_path _num_labels architectures
    attention_dropout bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward classifier_dropout
    cross_attention_hidden_size decoder_start_token_id directionality diversity_penalty do_sample dtype early_stopping
    embd_pdrop attn_pdrop resid_pdrop encoder_no_repeat_ngram_size eos_token_id exponential_decay_length_penalty
    finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout id2label
    initializer_range is_encoder_decoder label2id length_penalty max_length max_window_layers min_length model_type
    n_ctx no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_scores pad_token_id pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
    pooler_type prefix pretraining_tp problem_type pruned_heads remove_invalid_values repetition_penalty return_dict
    return_dict_in_generate rotary sep_token_id sliding_window summary_activation summary_first_dropout
    summary_proj_to_labels summary_type summary_use_proj suppress_tokens task_specific_params temperature
    tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript transformers_version typical_p unk_token_id
    use_bfloat16 use_cache reorder_and_upcast_attn cls_token_id mask_token_id max_batch_size
    """.split()  # noqa: SIM905 - a list literal would have a line for each
)
CHANGES_THE_MODEL = (
    "quantization_config", "auto_map", "num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size",
    "attn_logit_softcapping", "final_logit_softcapping", "logit_scale", "embedding_multiplier", "residual_multiplier",
    "attention_multiplier", "logits_scaling", "clip_qkv", "no_rope_layers", "use_qk_norm", "alibi",
    "cross_attention_freq", "is_decoder", "add_cross_attention", "scale_attn_by_inverse_layer_idx",
)  # fmt: skip
"""Refused in any family, if set and not read."""


class Keys:
    """A config.json in the reading."""

    def __init__(self, told: Mapping[str, Any], where: str) -> None:
        self._told = told
        self._where = where
        self._read: set[str] = set()

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default."""
        self._read.add(key)
        return self._told.get(key, default)

    def choose(self, key: str, meanings: Mapping[str, str]) -> str:
        """The meaning of a key's value."""
        value = self.take(key)
        if not isinstance(value, str) or value not in meanings:
            raise self.cannot(key, value, f"known are {', '.join(meanings)}")
        return meanings[value]

    def must(self, key: str, wanted: Any) -> None:
        """Refuse any value of a key but one; the key may be missing."""
        value = self.take(key, wanted)
        if value != wanted:
            raise self.cannot(key, value, f"only {shorten(str(wanted))} can be held")

    def agree(self, keys: tuple[str, ...]) -> bool:
        """The value of switches that must all stand alike."""
        values = {key: bool(self.take(key)) for key in keys}
        if len(set(values.values())) > 1:
            on = next(key for key, value in values.items() if value)
            raise self.cannot(on, True, f"biases are in all of {', '.join(keys)}, or in none")
        return next(iter(values.values()))

    def cannot(self, key: str, value: object, why: str) -> UnsupportedError:
        """The error for a value that cannot be held."""
        return UnsupportedError(f"{shorten(str(value))} cannot be held: {why}.", where=f"{self._where}: {key}")

    def misfit(self, name: str, why: str) -> InputError:
        """The error for values that make no model."""
        place = f"{self._where}: {name}" if name else self._where
        return InputError(f"this makes no model: {why.removeprefix('Value error, ')}.", where=place)

    def refuse_what_changes_the_model(self) -> None:
        """Raise UnsupportedError for a key that says more than the family knows."""
        for key in CHANGES_THE_MODEL:
            if key not in self._read and self._told.get(key):
                raise self.cannot(key, self._told[key], "no model here computes with it")

    def note_what_was_not_read(self) -> None:
        """Tell of keys whose meaning is unknown."""
        unknown = sorted(
            key for key, value in self._told.items() if key not in self._read | CHANGES_NOTHING and value is not None
        )
        if unknown:
            note(f"{self._where}: not read, since no model of this family is known to have it: {', '.join(unknown)}")
