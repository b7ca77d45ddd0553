"""Models of other programs: taken in, and handed out."""

from pathlib import Path

from megalith.artifacts import Artifact
from megalith.verbs.arguments import Place


def import_model(path: Place, *, output: Place | None = None, fresh: bool = False) -> Artifact:
    """A Hugging Face directory or a GGUF file as a model artifact: the verb `import`.

    It stands at `output`, imported/NAME by default; one that was made of the same files is taken as it stands, and
    `fresh` sets aside any other. Raises InputError for files that are missing or damaged, UnsupportedError for a model
    that cannot be held, with the key that says so.
    """
    from megalith.artifacts import set_aside
    from megalith.interop.importing import import_model as take_in

    source = Path(path)
    place = Path("imported") / source.resolve().stem if output is None else Path(output)
    with set_aside(fresh):
        return take_in(source, place)
