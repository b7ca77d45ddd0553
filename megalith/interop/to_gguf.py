"""A model of ours as GGUF files, one for each type of weights, written one tensor at a time by the `gguf` package.

Norms, biases and positions stay F32, as llama.cpp wants them; with Q8_0, a matrix whose rows are no whole blocks is
F16.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from megalith.artifacts import MANIFEST, Workspace, open_artifact, read_manifest
from megalith.console import note
from megalith.errors import UnsupportedError
from megalith.evaluation.texts import held_out
from megalith.inference import LanguageModel, rolling
from megalith.interop import gguf_families
from megalith.interop.checkpoint import Checkpoint, facts_of
from megalith.interop.family import NOT_COMPARED, resolved
from megalith.interop.gguf_families import ARCHITECTURES, RATES, Architecture
from megalith.interop.gguf_file import quantisation
from megalith.interop.gguf_model import open_gguf
from megalith.interop.gguf_tokens import tokenizer_fields
from megalith.interop.to_huggingface import Theirs
from megalith.model import GPT
from megalith.recipe import ModelConfig
from megalith.training.checkpoint.tensors import Spec

TYPES = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7}
"""Types of weights, and general.file_type of each."""
BLOCK = 32
DOCUMENTS, CHARACTERS = 20, 20_000
"""The text on which a file's loss is measured, at most."""


def write_gguf(model: Checkpoint, workspace: Workspace, types: Sequence[str], text: Path | None) -> dict[str, Any]:
    """Write the files; returns `family`, their names and, where there is text, the loss of each in bits per byte.

    Raises UnsupportedError for a model or tokenizer that no architecture of GGUF holds.
    """
    architecture, config = architecture_of(model.config)
    theirs = Theirs(model, config, architecture.entries, torch.float32)
    fields = {**gguf_families.write(architecture, config), **tokenizer_fields(model.tokenizer, config.vocab_size)}
    stage, facts = facts_of(model.home)
    if stage == "import" and facts.get("licence"):
        fields["general.license"] = facts["licence"]
    wanted = tuple(types) or (_type_of(model),)
    files = {kind: f"{model.name}-{kind}.gguf" for kind in wanted}
    for kind, name in files.items():
        with workspace.file(name) as path:
            _write(path, architecture, {**fields, "general.name": model.name}, theirs, kind)
    return {
        "family": architecture.name,
        "weights": list(files.values()),
        "zero_biases": config.bias != model.config.bias,
        "tanh_gelu": architecture.name == "gptneox" and config.activation == "gelu_exact",
        "loss": _losses(model, {kind: workspace.path / name for kind, name in files.items()}, text),
    }


def architecture_of(config: ModelConfig) -> tuple[Architecture, ModelConfig]:
    """The architecture that holds a model, and the model as it holds it, with biases of 0 where it wants biases."""
    misfits: dict[str, list[str]] = {}
    for wanted in (config, config.model_copy(update={"bias": True})) if not config.bias else (config,):
        for architecture in ARCHITECTURES:
            differing = _differences(architecture, wanted)
            if not differing:
                return architecture, wanted
            misfits.setdefault(architecture.name, differing)
    nearest = min(misfits, key=lambda name: len(misfits[name]))
    raise UnsupportedError(
        f"no architecture of GGUF that is known here holds this model; {nearest} comes nearest, and cannot have "
        f"{', '.join(misfits[nearest])}.",
        where="model",
        mend="Use `megalith export --to hf`.",
    )


def _differences(architecture: Architecture, config: ModelConfig) -> list[str]:
    wanted = resolved(config)
    names: dict[str, tuple[int, ...]] = {"token_embd.weight": (config.vocab_size, config.hidden)}
    names |= {} if config.tie_embeddings else {"output.weight": (config.vocab_size, config.hidden)}
    names |= {"blk.0.attn_q.bias": (config.query_width,)} if config.has_qkv_bias else {}
    names |= {"blk.0.attn_output.bias": (config.hidden,)} if config.bias else {}
    if wanted["family"] != architecture.fixed["family"]:
        return [f"family: {config.family}", *wanted]
    divisors = gguf_families.rate_divisors(config)
    try:
        fields = gguf_families.write(architecture, config)
        held = resolved(gguf_families.read(fields, names, None, architecture.name)[1])
    except UnsupportedError as error:
        return [error.where or "this"]
    passed = {*NOT_COMPARED, *(["rotary_scaling"] if divisors is not None else [])}
    passed |= {"activation"} if architecture.name == "gptneox" and config.activation != "swiglu" else set()
    return [f"{name}: {value}" for name, value in wanted.items() if held[name] != value and name not in passed]


def _write(path: Path, architecture: Architecture, fields: Mapping[str, Any], theirs: Theirs, kind: str) -> None:
    gguf = quantisation()
    writer = gguf.GGUFWriter(path, architecture.name)
    for name, value in {
        **fields, "general.type": "model", "general.file_type": TYPES[kind], "general.quantization_version": 2,
    }.items():  # fmt: skip
        if name != gguf_families.ARCHITECTURE:
            _add(writer, gguf, name, value)
    kinds = {name: _kind(name, spec, kind) for name, spec in theirs.specs.items()}
    divisors = gguf_families.rate_divisors(theirs.config)
    if divisors is not None:
        writer.add_tensor_info(RATES, tuple(divisors.shape), np.dtype(np.float32), divisors.nbytes)
    for name, spec in theirs.specs.items():
        blocks = gguf.GGMLQuantizationType[kinds[name]]
        size, each = gguf.GGML_QUANT_SIZES[blocks]
        row = spec.shape[-1] // size * each
        writer.add_tensor_info(
            name, (*spec.shape[:-1], row), np.dtype(np.uint8), math.prod(spec.shape[:-1]) * row, raw_dtype=blocks
        )
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if divisors is not None:
        writer.write_tensor_data(divisors.numpy())
    for name in theirs.specs:
        writer.write_tensor_data(_content(theirs.tensor(name), kinds[name], gguf, name))
    writer.close()


def _add(writer: Any, gguf: Any, name: str, value: Any) -> None:
    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        writer.add_array(name, value)
        return
    simple = {bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING}
    writer.add_key_value(name, value, simple[type(value)])


def _kind(name: str, spec: Spec, kind: str) -> str:
    if len(spec.shape) < 2 or name.startswith("position_embd"):
        return "F32"
    return "F16" if kind == "Q8_0" and spec.shape[-1] % BLOCK else kind


def _content(tensor: Tensor, kind: str, gguf: Any, name: str) -> NDArray[Any]:
    array = tensor.float().numpy()
    if kind == "F16" and float(np.abs(array).max(initial=0.0)) > np.finfo(np.float16).max:
        raise UnsupportedError(f"{name} has numbers beyond F16's range.", where="--type", mend="Use --type BF16.")
    made: NDArray[Any] = gguf.quants.quantize(array, gguf.GGMLQuantizationType[kind])
    return made


def _type_of(model: Checkpoint) -> str:
    dtypes = {spec.dtype for spec in model.specs.values()}
    return {frozenset({torch.bfloat16}): "BF16", frozenset({torch.float16}): "F16"}.get(frozenset(dtypes), "F32")


def _losses(model: Checkpoint, files: Mapping[str, Path], text: Path | None) -> dict[str, Any] | None:
    """Bits per byte of the model as it is, and of each file, on the same text; None where there is none."""
    tokens = None
    if text is None:
        tokens = model.home.parent / "tokenize"
        stands = (tokens / MANIFEST).is_file() and (model.home / MANIFEST).is_file()
        if not stands or read_manifest(model.home).inputs.get("tokens") != read_manifest(tokens).digest:
            note("the loss of these files is not measured: no held-out documents stand beside the model (use --text)")
            return None
    lm = _language_model(model)
    artifact = open_artifact(tokens, "tokenize") if tokens is not None else None
    texts = [one.text[:CHARACTERS] for one in islice(held_out(lm, text, None, artifact, DOCUMENTS, 0), DOCUMENTS)]
    found = {"original": _bits_per_byte(lm, texts)}
    for kind, path in files.items():
        source = open_gguf(path)
        with torch.no_grad():
            for name, parameter in lm.model.named_parameters():
                parameter.copy_(source.tensor(name) if name in source.specs else parameter)
        found[kind] = _bits_per_byte(lm, texts)
    return {"documents": len(texts), "bits_per_byte": found}


def _bits_per_byte(lm: LanguageModel, texts: Sequence[str]) -> float:
    results = rolling(lm, texts, 8192)
    return sum(each.nats for each in results) / math.log(2) / max(1, sum(each.bytes for each in results))


def _language_model(model: Checkpoint) -> LanguageModel:
    built = GPT(model.config).eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            parameter.copy_(model.tensor(name))
    lengths = tuple(map(len, model.tokenizer.token_bytes or ()))
    return LanguageModel(built, model.config, model.tokenizer, lengths)
