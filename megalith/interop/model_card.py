"""The model card of an export: Markdown with the front matter by which hubs list a model.

It says what the artifacts beside the model say: data sets and licences as the corpus states them, scores as they were
evaluated on this very model, time and machine of training. Where nothing is known it says so.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from megalith import __version__
from megalith.artifacts import MANIFEST, Manifest, file_digest, read_manifest
from megalith.console import human_seconds
from megalith.errors import InputError
from megalith.interop.checkpoint import Checkpoint

_TAGS = ["megalith"]


def model_card(model: Checkpoint, facts: Mapping[str, Any]) -> str:
    """The content of README.md; `facts` are the export's."""
    beside = _beside(model)
    datasets = _datasets(beside.get("curate"))
    licence = _licence(model, datasets, beside)
    rows = _scores(model, beside)
    front: dict[str, Any] = {
        "license": licence,
        "library_name": "gguf" if facts["format"] == "gguf" else "transformers",
        "pipeline_tag": "fill-mask" if model.config.family == "bert" else "text-generation",
        "tags": _TAGS,
        **({"datasets": sorted(datasets)} if datasets else {}),
    }
    if rows:
        front["model-index"] = [{"name": model.name, "results": [_result(row) for row in rows]}]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100)}---",
        f"# {model.name}",
        _model(model, facts),
        _data(datasets),
        _training(beside),
        _evaluation(rows),
        *_files(facts),
        f"Written by Megalith {__version__} from a model whose digest is `{model.digest}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _beside(model: Checkpoint) -> dict[str, Manifest]:
    """The manifests of the artifact itself and of those that it was made of, as far as they stand and fit."""
    found: dict[str, Manifest] = {}
    home = model.home
    own = _manifest(home)
    if own is None:
        return found
    found[own.stage] = own
    if own.stage != "train":
        return found
    tokens = _manifest(home.parent / "tokenize")
    if tokens is not None and tokens.digest == own.inputs.get("tokens"):
        found["tokenize"] = tokens
        corpus = _manifest(home.parent / "curate")
        if corpus is not None and corpus.digest == tokens.inputs.get("corpus"):
            found["curate"] = corpus
    judged = _manifest(home.parent / "evaluate")
    weights = home / "model" / "model.safetensors"
    scored = judged.inputs.get("model/model.safetensors") if judged else None
    if judged is not None and weights.is_file() and scored == file_digest(weights):
        found["evaluate"] = judged
    return found


def _manifest(path: Path) -> Manifest | None:
    if not (path / MANIFEST).is_file():
        return None
    try:
        return read_manifest(path)
    except InputError:
        return None


def _datasets(corpus: Manifest | None) -> dict[str, str | None]:
    """Data sets, and the licence that each states."""
    told = corpus.facts.get("datasets") if corpus else None
    return {name: held.get("licence") for name, held in told.items()} if isinstance(told, dict) else {}


def _licence(model: Checkpoint, datasets: Mapping[str, str | None], beside: Mapping[str, Manifest]) -> str:
    """The licence of an imported model; nobody has stated one for a model that was trained here."""
    stated = beside["import"].facts.get("licence") if "import" in beside else None
    return str(stated) if stated else "unknown"


def _scores(model: Checkpoint, beside: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    """The rows of the evaluation; a task without items has no score."""
    judged = beside.get("evaluate")
    rows = judged.facts.get("tasks") if judged and model.step is None else None
    return [row for row in rows if row["score"] is not None] if isinstance(rows, list) else []


def _result(row: Mapping[str, Any]) -> dict[str, Any]:
    name = f"{row['name']}, {row['shots']} shots" if row.get("shots") else str(row["name"])
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": name, "type": str(row["name"])},
        "metrics": [{"name": row["metric"], "type": row["metric"], "value": row["score"]}],
    }


def _model(model: Checkpoint, facts: Mapping[str, Any]) -> str:
    config = model.config
    said = (
        f"A {facts['family']} model of {facts['parameters']:,} parameters: {config.layers} layers, hidden size "
        f"{config.hidden}, {config.heads} heads ({config.kv_heads} of keys and values), vocabulary "
        f"{config.vocab_size:,}, context {config.sequence_length:,} tokens."
    )
    if facts.get("zero_biases"):
        said += " Its biases are 0: the model has none, and the family does."
    if facts.get("tanh_gelu"):
        said += " llama.cpp computes its GELU in the tanh form; the model's is exact."
    return said if model.step is None else f"{said} It is the state after {model.step:,} steps of a longer run."


def _data(datasets: Mapping[str, str | None]) -> str:
    if not datasets:
        return "## Data\n\nNot known: no corpus stands beside the model."
    rows = [f"| {name} | {licence or 'not stated'} |" for name, licence in sorted(datasets.items())]
    return "\n".join(["## Data", "", "| data set | licence |", "|---|---|", *rows])


def _training(beside: Mapping[str, Manifest]) -> str:
    made = beside.get("train")
    if made is None:
        source = beside["import"].facts.get("source") if "import" in beside else None
        return f"## Training\n\n{f'Imported from {source}, not trained here.' if source else 'Not known.'}"
    facts = made.facts
    processor = made.machine.get("accelerator") or made.machine.get("processor") or "an unknown processor"
    return (
        f"## Training\n\n{facts.get('tokens', 0):,} tokens in {human_seconds(made.seconds + made.earlier_seconds)} on "
        f"{made.machine.get('processes', 1)} processes ({processor}). Energy: {_energy(facts)}.{_origin(made)}"
    )


def _origin(made: Manifest) -> str:
    """The model whose weights the run began with; its licence binds this one, too."""
    place = made.recorded.get("train.from")
    return f" It began with the weights of {Path(place).name}, whose licence holds here, too." if place else ""


def _energy(facts: Mapping[str, Any]) -> str:
    measured = facts.get("energy_kwh")
    return f"{measured:,.3f} kWh" if isinstance(measured, int | float) else "not measured"


def _evaluation(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "## Evaluation\n\nNone stands beside the model."
    scores = [f"{row['score']:.4g} ± {row.get('standard_error') or 0:.2g}" for row in rows]
    lines = [
        f"| {row['name']} | {row['shots']} | {row['metric']} | {score} |"
        for row, score in zip(rows, scores, strict=True)
    ]
    return "\n".join(["## Evaluation", "", "| task | shots | metric | score |", "|---|---|---|---|", *lines])


def _files(facts: Mapping[str, Any]) -> list[str]:
    loss = facts.get("loss")
    if not loss:
        return []
    bits = loss["bits_per_byte"]
    lines = [f"| {kind} | {value:.5f} | {value - bits['original']:+.5f} |" for kind, value in bits.items()]
    head = ["## Loss by type of weights", "", "| weights | bits per byte | more than the original |", "|---|---|---|"]
    return ["\n".join([*head, *lines, "", f"On {loss['documents']} documents that were held out, or were given."])]
