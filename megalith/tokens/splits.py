"""The shards of a tokenize artifact by name: written there, or taken where they lie elsewhere.

Shards that are taken stay where they are. `sources.json` holds their digests and which of their documents make up each
split; `logs/places.json`, which is no part of the artifact's digest, says where they lie now. So a data set may move.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from megalith.artifacts import LOGS, whole
from megalith.errors import InputError
from megalith.input_files import read_json, read_model
from megalith.tokens.shards import Shards, Slice

SOURCES = "sources.json"
PLACES = f"{LOGS}/places.json"
_MEND = "Run `megalith tokenize` again: it looks where tokens.from says."


class TakenPair(BaseModel):
    """The digests of one pair."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bin: str
    idx: str


class TakenSlice(BaseModel):
    """The documents `first` … `after` − 1 of the pair of that number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pair: int
    first: int
    after: int


class Taken(BaseModel):
    """The content of `sources.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: tuple[TakenPair, ...]
    splits: Mapping[str, tuple[TakenSlice, ...]]
    """By name: `validation`, and `train` or `train-NAME` for each data set."""


def open_split(tokens: Path, name: str) -> Shards:
    """The shards `name` of the artifact at `tokens`: `train`, `train-NAME` of a data set, or `validation`.

    Raises InputError where they are missing or damaged.
    """
    if not (tokens / SOURCES).is_file():
        return Shards(tokens / name)
    taken = read_model(tokens / SOURCES, Taken, mend=_MEND)
    if name not in taken.splits:
        raise InputError(
            f"these shards were taken without a set {name}.",
            where=str(tokens),
            mend="Run `megalith tokenize` again, after a change of tokens.from.",
        )
    places = read_json(tokens / PLACES, mend=_MEND)
    if not isinstance(places, list) or [type(one) for one in places] != [str] * len(taken.pairs):
        raise InputError("this file does not say where the shards lie.", where=str(tokens / PLACES), mend=_MEND)
    return Shards(*(Slice(Path(places[part.pair]), part.first, part.after) for part in taken.splits[name]))


def write_places(tokens: Path, prefixes: Sequence[Path]) -> None:
    """Say where the pairs lie now, in their order."""
    told: Any = [str(prefix.absolute()) for prefix in prefixes]
    path = tokens / PLACES
    with suppress(InputError):
        if read_json(path) == told:
            return
    path.parent.mkdir(exist_ok=True)
    with whole(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1))
