"""`megalith export`: a model of ours for other programs, with a model card, from any layout or from shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from megalith.arithmetic import parameters
from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.errors import InputError, UnsupportedError
from megalith.interop.checkpoint import open_checkpoint
from megalith.interop.model_card import model_card
from megalith.interop.to_gguf import TYPES, write_gguf
from megalith.interop.to_huggingface import DTYPES, write_huggingface

VERSION = 1
Format = Literal["hf", "gguf"]
FORMATS: tuple[Format, ...] = ("hf", "gguf")


def export_model(source: Path, path: Path, to: Format, types: Sequence[str] = (), text: Path | None = None) -> Artifact:
    """Write the model at `source` as a Hugging Face directory or GGUF files at `path`.

    `types` are those of the weights: of a Hugging Face directory one of F32, F16 and BF16, of GGUF any number, Q8_0
    among them; by default the type they have. The loss of each GGUF file in bits per byte is measured on `text`, or on
    the run's held-out documents where they stand beside it.

    Raises InputError where there is no model or a file is damaged, UnsupportedError for a model that the format cannot
    hold, with the fields.
    """
    known = tuple(DTYPES) if to == "hf" else tuple(TYPES)
    for kind in types:
        if kind not in known:
            raise UnsupportedError(f"{kind} cannot be written, but {', '.join(known)}.", where="--type")
    if to == "hf" and len(types) > 1:
        raise UnsupportedError("a Hugging Face directory has weights of one type.", where="--type")
    model = open_checkpoint(source)

    def build(workspace: Workspace) -> Mapping[str, Any]:
        facts: dict[str, Any] = {"format": to, "parameters": parameters(model.config).total}
        if to == "hf":
            facts |= write_huggingface(model, workspace, types[0] if types else None)
        else:
            facts |= write_gguf(model, workspace, types, text)
        with workspace.file("README.md") as file:
            file.write_text(model_card(model, facts), encoding="utf-8")
        return facts

    return produce(
        path,
        stage="export",
        settings={"format": to, "types": list(types), "name": model.name, "version": VERSION},
        inputs={"model": model.digest, **_text_digest(text)},
        seed=0,
        build=build,
    )


def _text_digest(text: Path | None) -> dict[str, str]:
    if text is None:
        return {}
    if not text.is_file():
        raise InputError("this text is missing.", where=str(text))
    return {"text": file_digest(text)}
