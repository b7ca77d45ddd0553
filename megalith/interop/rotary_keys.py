"""Rotary positions in a `config.json`: `rope_theta` with `rope_scaling`, or both in `rope_parameters` (transformers 5).

The older keys are written, which every version reads.
"""

from typing import Any, Literal

from megalith.interop.keys import Keys
from megalith.recipe import ModelConfig, RotaryScaling

Names = Literal["llama", "neox"]
BASE = {"llama": "rope_theta", "neox": "rotary_emb_base"}
FRACTION = {"llama": "partial_rotary_factor", "neox": "rotary_pct"}
_DEFAULT_FRACTION = {"llama": 1.0, "neox": 0.25}
_KEYS = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "original_max_position_embeddings": "original_length",
        "low_freq_factor": "low_frequency_factor",
        "high_freq_factor": "high_frequency_factor",
    },
    "yarn": {
        "factor": "factor",
        "original_max_position_embeddings": "original_length",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    },
}
"""Keys of each kind of scaling, and the fields of RotaryScaling."""


def read(keys: Keys, names: Names) -> dict[str, Any]:
    """The fields of ModelConfig for rotary positions."""
    both = [keys.take("rope_scaling"), keys.take("rope_parameters")]
    told: dict[str, Any] = {}
    for each in both:
        if each is not None and not isinstance(each, dict):
            raise keys.cannot("rope_scaling", each, "it is not a section")
        told |= each or {}
    base = told.pop("rope_theta", None) or keys.take(BASE[names]) or 10000.0
    fraction = told.pop("partial_rotary_factor", None) or keys.take(FRACTION[names]) or _DEFAULT_FRACTION[names]
    keys.take(BASE[names])
    keys.take(FRACTION[names])
    fields: dict[str, Any] = {"positions": "rotary", "rotary_base": base, "rotary_fraction": fraction}
    if names == "llama" and fraction != 1.0:
        raise keys.cannot("partial_rotary_factor", fraction, "all of a head is rotated in this family")
    kind = told.pop("rope_type", None) or told.pop("type", None) or "default"
    told.pop("type", None)
    if kind == "default":
        return fields
    if kind not in _KEYS:
        raise keys.cannot("rope_scaling.rope_type", kind, f"known are default, {', '.join(_KEYS)}")
    scaling: dict[str, Any] = {"kind": kind}
    for key, value in told.items():
        if key in _KEYS[kind]:
            scaling[_KEYS[kind][key]] = value
        elif value is not None and not (
            key == "original_max_position_embeddings" or (key, value) == ("truncate", True)
        ):
            raise keys.cannot(f"rope_scaling.{key}", value, f"a scaling of the kind {kind} has no such key here")
    if "original_max_position_embeddings" in _KEYS[kind] and scaling.get("original_length") is None:
        scaling["original_length"] = keys.take("max_position_embeddings")
    return {**fields, "rotary_scaling": {name: value for name, value in scaling.items() if value is not None}}


def write(config: ModelConfig, names: Names) -> dict[str, Any]:
    """The keys of a model with rotary positions."""
    told: dict[str, Any] = {BASE[names]: config.rotary_base}
    if names == "neox" or config.rotary_fraction != 1.0:
        told[FRACTION[names]] = config.rotary_fraction
    scaling = config.rotary_scaling
    if scaling is not None:
        values = _spelled_out(scaling)
        told["rope_scaling"] = {"rope_type": scaling.kind} | {
            key: values[name] for key, name in _KEYS[scaling.kind].items() if values[name] is not None
        }
    return told


def _spelled_out(scaling: RotaryScaling) -> dict[str, Any]:
    values = scaling.model_dump()
    if scaling.kind == "llama3":  # transformers has no default for these
        values |= {"low_frequency_factor": scaling.low_turns, "high_frequency_factor": scaling.high_turns}
    return values
