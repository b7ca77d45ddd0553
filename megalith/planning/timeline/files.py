"""The files in which steps are drawn: what each suffix stands for, written whole or not at all."""

from collections.abc import Callable, Sequence
from pathlib import Path

from megalith.artifacts import Workspace
from megalith.errors import InputError
from megalith.planning.timeline.page import page
from megalith.planning.timeline.png import write_png
from megalith.planning.timeline.scene import scene
from megalith.planning.timeline.step import Step
from megalith.planning.timeline.svg import svg
from megalith.planning.timeline.trace import trace

_STEM = "timeline"


def write_timeline(output: Path, title: str, steps: Sequence[Step]) -> list[Path]:
    """Draw `steps` into `output`, by its suffix: .png, .svg, .html, or .json (a trace). Without one it is a directory,
    which gets all four as `timeline.…`. Gives the files.

    Raises InputError for another suffix of letters (`gpt2-2.5b` has none), and where a file stands in a directory's
    place.
    """
    if output.is_dir() or not output.suffix[1:].isalpha():
        if output.exists() and not output.is_dir():
            mend = f"Name a directory, or a file that ends in {', '.join(_WRITERS)}."
            raise InputError("a file stands where a directory is wanted.", where=str(output), mend=mend)
        targets = [output / f"{_STEM}{suffix}" for suffix in _WRITERS]
    elif output.suffix in _WRITERS:
        targets = [output]
    else:
        mend = f"Use {', '.join(_WRITERS)}, or a directory for all of them."
        raise InputError(f"a timeline is not drawn as {output.suffix}.", where=str(output), mend=mend)
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Workspace(target.parent).file(target.name) as path:
            _WRITERS[target.suffix](path, title, steps)
    return targets


def _png(path: Path, title: str, steps: Sequence[Step]) -> None:
    write_png(scene(title, steps), path)


def _svg(path: Path, title: str, steps: Sequence[Step]) -> None:
    path.write_text(svg(scene(title, steps)), encoding="utf-8")


def _html(path: Path, title: str, steps: Sequence[Step]) -> None:
    path.write_text(page(title, steps), encoding="utf-8")


def _json(path: Path, title: str, steps: Sequence[Step]) -> None:
    path.write_text(trace(steps), encoding="utf-8")


_WRITERS: dict[str, Callable[[Path, str, Sequence[Step]], None]] = {
    ".png": _png,
    ".svg": _svg,
    ".html": _html,
    ".json": _json,
}
