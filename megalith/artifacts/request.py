"""The request for an artifact, the mark of a workspace, and the differences between two requests."""

import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from megalith.artifacts.files import whole
from megalith.artifacts.manifest import MANIFEST, Json, Manifest, artifact_key, read_manifest
from megalith.errors import InputError

KEY = ".key"
UNTOLD = "its settings and inputs are not recorded (an earlier version of Megalith began it)"
STAGE_VERSION = "the stage's version"
_LONGEST, _BEFORE = 60, 12
_MOST = 12


@dataclass(frozen=True)
class Request:
    """The settings, inputs and seed of an artifact."""

    stage: str
    settings: Mapping[str, Json]
    inputs: Mapping[str, str]
    seed: int
    recorded: Mapping[str, Json] = field(default_factory=dict)
    """Settings and inputs, by dotted name, that the key leaves out."""

    @property
    def key(self) -> str:
        return artifact_key(self.stage, self.settings, self.inputs, self.seed)


@dataclass(frozen=True)
class Begun:
    """The mark of a workspace: its request, and the time that has gone into it."""

    request: Request | None
    """None where an earlier version left no more than the key."""
    key: str
    began: float
    spent: float
    """Seconds of the attempts before the one that began at `began`."""


def request_of(manifest: Manifest) -> Request:
    """The request that an artifact was made for."""
    return Request(manifest.stage, manifest.settings, manifest.inputs, manifest.seed, manifest.recorded)


def differences(made: Request, asked: Request) -> list[str]:
    """The settings and inputs, recorded ones left out, in which two requests differ: each with both values."""
    before, now = _named(made), _named(asked)
    names = [name for name in {**before, **now} if name not in asked.recorded]
    return [_told(name, before, now) for name in names if before.get(name) != now.get(name)]


def recorded_differences(made: Request, asked: Request) -> list[str]:
    """Differences in what is only recorded, where both requests tell of it."""
    before = {**_named(made), **made.recorded}
    return [
        _told(name, before, asked.recorded)
        for name, value in asked.recorded.items()
        if name in before and before[name] != value
    ]


def key_of(change: str) -> str:
    """The key of a difference: what stands before its values."""
    return change.partition(" was ")[0]


def listed(changes: list[str]) -> str:
    """Differences in one clause."""
    more = f"; and {len(changes) - _MOST} more" if len(changes) > _MOST else ""
    return "; ".join(changes[:_MOST]) + more


def write_mark(workspace: Path, request: Request, spent: float) -> None:
    """Mark a workspace with its request."""
    with whole(workspace / KEY) as path:
        path.write_text(json.dumps({**asdict(request), "began": time.time(), "spent": spent}, indent=1))


def read_mark(workspace: Path) -> Begun | None:
    """The mark of a workspace, in today's form or the older one, which was the key alone; None where it has none.

    A workspace that has its manifest already is known by that.
    """
    path = workspace / KEY
    with suppress(InputError):
        manifest = read_manifest(workspace)
        return Begun(request_of(manifest), manifest.key, math.inf, manifest.seconds + manifest.earlier_seconds)
    try:
        text, began = path.read_text(errors="replace"), path.stat().st_mtime
    except OSError:
        return None
    try:
        told = json.loads(text)
        began, spent = float(told.pop("began")), float(told.pop("spent"))
        request = Request(**told)
        if not all(isinstance(part, dict) for part in (request.settings, request.inputs, request.recorded)):
            raise TypeError("settings and inputs go by name")
    except (ValueError, TypeError, KeyError, AttributeError):
        return Begun(None, text, began, 0.0)
    return Begun(request, request.key, began, spent)


def seconds_spent(workspace: Path, begun: Begun) -> float:
    """Seconds of all attempts so far, each until the last file that it wrote."""
    latest = max((file.stat().st_mtime for file in finished_files(workspace)), default=begun.began)
    return begun.spent + max(0.0, latest - begun.began)


def finished_files(workspace: Path) -> list[Path]:
    """Finished files of a workspace, marks and torn files left out."""
    return [
        file
        for file in workspace.rglob("*")
        if file.is_file() and file.name not in (KEY, MANIFEST) and not file.name.endswith(".tmp")
    ]


def _named(request: Request) -> dict[str, Json]:
    return {
        **flat(request.settings),
        **{f"inputs.{name}": digest for name, digest in request.inputs.items()},
        "seed": request.seed,
    }


def flat(settings: Mapping[str, Json], prefix: str = "") -> dict[str, Json]:
    """Settings by dotted name; lists are one value, as JSON reads them back."""
    found: dict[str, Json] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.loads(json.dumps(value))
    return found


def _told(name: str, before: Mapping[str, Json], now: Mapping[str, Json]) -> str:
    """`train.learning_rate was 0.01 and is 0.02 now`; of long values, what follows their common beginning."""
    texts = [
        _text(values[name]) if name in values else missing
        for values, missing in ((before, "not recorded"), (now, "not set"))
    ]
    if name.startswith("inputs."):
        texts = [text[:_BEFORE] for text in texts]
    if max(map(len, texts)) > _LONGEST:
        alike = next((at for at, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
        texts = [_cut(text, max(0, alike - _BEFORE)) for text in texts]
    shown = STAGE_VERSION if name == "version" else name
    return f"{shown} was {texts[0]} and is {texts[1]} now"


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + _LONGEST] + ("…" if len(text) > start + _LONGEST else "")


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
