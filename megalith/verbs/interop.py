"""Models of other programs: taken in, and handed out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from megalith.artifacts import Artifact
from megalith.input_files import real_path
from megalith.verbs.arguments import Place
from megalith.verbs.arguments import path as path_of


def import_model(path: Place, *, output: Place | None = None, fresh: bool = False) -> Artifact:
    """A Hugging Face directory or a GGUF file, here or behind an address, as a model artifact: the verb `import`.

    It stands at `output`, imported/NAME by default; one that was made of the same files is taken as it stands, and
    `fresh` sets aside any other. Raises InputError for files that are missing or damaged, UnsupportedError for a model
    that cannot be held, with the key that says so.
    """
    from megalith.artifacts import set_aside
    from megalith.interop.importing import import_model as take_in
    from megalith.storage import local_copy

    source = Path(path)
    place = Path("imported") / real_path(source).stem if output is None else Path(output)
    with set_aside(fresh):
        return take_in(local_copy(source), place)


def average(
    models: Place | Sequence[Place], *, last: int | None = None, output: Place | None = None, fresh: bool = False
) -> Artifact:
    """The mean of the weights of several checkpoints or models, as a model artifact.

    With `last`, of so many last checkpoints of the one run that is named (runs/NAME/train). It stands at `output`,
    averaged/NAME by default. Raises InputError where they differ in shape or tokenizer.
    """
    from megalith.artifacts import set_aside
    from megalith.interop.averaging import average as mean
    from megalith.interop.checkpoint import open_checkpoint

    named = [Path(models)] if isinstance(models, str | Path) else [Path(each) for each in models]
    place = Path("averaged") / open_checkpoint(named[0]).name if output is None else Path(output)
    with set_aside(fresh):
        return mean(named, place, last)


def export_model(
    checkpoint: Place,
    to: Literal["hf", "gguf"] = "hf",
    *,
    types: Sequence[str] = (),
    text: Place | None = None,
    output: Place | None = None,
    fresh: bool = False,
) -> Artifact:
    """A model of ours for other programs: the verb `export`.

    `checkpoint` is a train or import artifact, its `model` directory, or a checkpoint still in shards
    (runs/NAME/train/checkpoints/step-XXXXXXXX). `to` is a Hugging Face directory or GGUF files, at `output`,
    exported/NAME-FORMAT by default. `types` are those of the weights (F32, F16, BF16; for GGUF any number, and Q8_0);
    the loss of GGUF files is measured on `text`, or on the run's held-out documents. Raises UnsupportedError for a
    model that the format cannot hold.
    """
    from megalith.artifacts import set_aside
    from megalith.interop.checkpoint import open_checkpoint
    from megalith.interop.exporting import export_model as hand_out

    source = Path(checkpoint)
    place = Path("exported") / f"{open_checkpoint(source).name}-{to}" if output is None else Path(output)
    with set_aside(fresh):
        return hand_out(source, place, to, types, path_of(text))
