"""A family of Hugging Face models as data: keys of `config.json` ↔ fields of ModelConfig, and tensors ↔ tensors.

`read` and `write` walk the same tables. `family_of` asks each family to write a model's configuration and to read it
back: the first that gives the same model holds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from megalith.errors import UnsupportedError
from megalith.interop import rotary_keys
from megalith.interop.entries import Entry
from megalith.interop.keys import Keys
from megalith.recipe import ModelConfig

NOT_COMPARED = ("dropout", "init_std", "vocab_multiple")
"""Fields that do not change what a finished model computes."""


@dataclass(frozen=True)
class Family:
    """One `model_type`."""

    name: str
    architectures: tuple[str, ...]
    """Classes of transformers whose weights are taken; the first is written."""
    fields: Mapping[str, str]
    """Keys of config.json whose value is that of a field of ModelConfig."""
    activations: Mapping[str, str]
    """Values of the activation's key, and ours; the first that fits is written."""
    fixed: Mapping[str, Any]
    """Fields that every model of the family has."""
    entries: tuple[Entry, ...]
    activation_key: str = "hidden_act"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that config.json may lack."""
    must: Mapping[str, Any] = field(default_factory=dict)
    """Keys that change what is computed, and the one value that can be held; written as well."""
    biases: Mapping[str, str] = field(default_factory=dict)
    """Keys that switch biases on in one place each; all of them must agree."""
    dropout: tuple[str, ...] = ()
    """Keys of dropout, which are one in ModelConfig."""
    rotary: Literal["llama", "neox"] | None = None
    window: Literal["always", "switched"] | None = None
    """How the sliding window is said: by its width, or by a switch beside it (Qwen)."""
    base_prefix: str = ""
    """A file of the bare model lacks it."""
    unused: tuple[str, ...] = ()
    """Regular expressions of tensors that hold no weights: masks, tables of angles."""
    may_lack: tuple[str, ...] = ()
    """Beginnings of names of ours that a file may lack; they are drawn anew."""


def read(family: Family, told: Mapping[str, Any], where: str) -> ModelConfig:
    """The model that a config.json describes. Raises UnsupportedError that names the key which cannot be held."""
    keys = Keys({**family.defaults, **told}, where)
    fields: dict[str, Any] = {**family.fixed, "vocab_multiple": ModelConfig.model_fields["vocab_multiple"].default}
    for key, name in family.fields.items():
        value = keys.take(key)
        if value is not None:
            fields[name] = value
    fields["activation"] = keys.choose(family.activation_key, family.activations)
    for key, value in family.must.items():
        keys.must(key, value)
    if family.biases:
        fields["bias"] = keys.agree(tuple(family.biases))
    if family.dropout:
        rates = {keys.take(key) for key in family.dropout}
        fields["dropout"] = rates.pop() if len(rates) == 1 else 0.0
    if family.rotary:
        fields |= rotary_keys.read(keys, family.rotary)
    if family.window:
        fields["sliding_window"] = _read_window(keys, switched=family.window == "switched")
    keys.refuse_what_changes_the_model()
    try:
        config = ModelConfig.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise keys.misfit(".".join(map(str, first["loc"])), str(first["msg"])) from error
    keys.note_what_was_not_read()
    as_by_default = config.head_size is not None and config.head_size * config.heads == config.hidden
    return config.model_copy(update={"head_size": None}) if as_by_default else config


def write(family: Family, config: ModelConfig) -> dict[str, Any]:
    """The content of config.json, without token ids. What the family cannot hold is left out: read it back."""
    values = resolved(config)
    told: dict[str, Any] = {"model_type": family.name, "architectures": [family.architectures[0]]}
    told |= {key: values[name] for key, name in family.fields.items()}
    told[family.activation_key] = next(
        (theirs for theirs, ours in family.activations.items() if ours == config.activation), config.activation
    )
    told |= family.must
    told |= dict.fromkeys(family.biases, config.bias)
    told |= dict.fromkeys(family.dropout, config.dropout)
    if family.rotary:
        told |= rotary_keys.write(config, family.rotary)
    if family.window == "switched":
        told |= {"use_sliding_window": config.sliding_window is not None}
        told |= {"sliding_window": config.sliding_window, "max_window_layers": 0} if config.sliding_window else {}
    elif family.window == "always":
        told["sliding_window"] = config.sliding_window
    return told


def family_of(families: Sequence[Family], config: ModelConfig) -> tuple[Family, ModelConfig]:
    """The family that holds a model, and the model as it holds it: with biases of zero where it wants biases.

    Raises UnsupportedError with the fields that differ in the family that comes nearest.
    """
    misfits: dict[str, list[str]] = {}
    for wanted in (config, config.model_copy(update={"bias": True})) if not config.bias else (config,):
        for family in families:
            differing = differences(family, wanted)
            if not differing:
                return family, wanted
            misfits.setdefault(family.name, differing)
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    raise UnsupportedError(
        f"no family of models that is known here holds this one; {nearest} comes nearest, and cannot have "
        f"{', '.join(misfits[nearest])}.",
        where="model",
        mend="Use `generate` and `serve`, which take the model as it is.",
    )


def differences(family: Family, config: ModelConfig) -> list[str]:
    """The fields of a model that a family cannot hold, with their values."""
    wanted = resolved(config)
    if wanted["family"] != family.fixed["family"]:
        return [f"family: {config.family}", *(f"{name}" for name in wanted)]
    fixed = [f"{name}: {wanted[name]}" for name, value in family.fixed.items() if wanted[name] != value]
    try:
        held = resolved(read(family, write(family, config), family.name))
    except UnsupportedError as error:
        key = error.where.rpartition(": ")[2] if error.where else "this"
        return [*fixed, f"activation: {config.activation}" if key == family.activation_key else key]
    return [f"{name}: {value}" for name, value in wanted.items() if held[name] != value and name not in NOT_COMPARED]


def _read_window(keys: Keys, *, switched: bool) -> int | None:
    width: int | None = keys.take("sliding_window")
    kinds = keys.take("layer_types")
    if switched:
        on, full_layers = keys.take("use_sliding_window"), keys.take("max_window_layers")
        if not on:
            return None
        if full_layers:
            raise keys.cannot("max_window_layers", full_layers, "a window is the same in every layer")
    if kinds is not None and len({str(kind) for kind in kinds}) > 1:
        raise keys.cannot("layer_types", "of several kinds", "a window is the same in every layer")
    return width


def resolved(config: ModelConfig) -> dict[str, Any]:
    """Every field, with defaults that follow from others filled in."""
    values = {name: getattr(config, name) for name in ModelConfig.model_fields}
    return values | {
        "num_kv_heads": config.kv_heads,
        "head_size": config.head_dim,
        "ffn_hidden_size": config.ffn_hidden,
        "qkv_bias": config.has_qkv_bias,
        "init_std": config.weight_std,
    }
