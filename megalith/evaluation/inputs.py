"""The inputs of an evaluation beside its tasks: the digests by which a finished one is recognised."""

from pathlib import Path

from megalith.artifacts import Artifact, file_digest
from megalith.errors import InputError
from megalith.inference import model_digests


def standing_inputs(
    model: Path, tokens: Artifact | None, corpus: Artifact | None, texts: Path | None
) -> dict[str, str]:
    """Return the digest of each input that the result depends on, by name."""
    digests = {f"model/{name}": digest for name, digest in model_digests(model).items()}
    if corpus is not None:
        digests["corpus"] = corpus.digest
    elif tokens is not None and texts is None:
        digests["tokens"] = tokens.digest
    if texts is not None:
        if not texts.exists():
            raise InputError("this file or directory is missing.", where=str(texts))
        files = [file for file in texts.rglob("*") if file.is_file()] if texts.is_dir() else [texts]
        digests |= {f"texts/{file.relative_to(texts.parent).as_posix()}": file_digest(file) for file in sorted(files)}
    return digests
