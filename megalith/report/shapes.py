"""The shape of the files that the pages read: which parts are objects, lists and text. Checked before a page is made.

Figures are not checked: `formats` shows a dash for anything that is not a number. Other keys are kept as they are, so
files of earlier and later versions are read as far as they agree.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from megalith.errors import InputError
from megalith.input_files import read_json

DEEPEST = 40
"""Most levels of nesting; Megalith's own files have fewer than ten."""

Object = dict[str, Any]
Objects = list[Object] | None
Counts = dict[str, float | None] | None
Text = str | None
Number = Annotated[float, Field(allow_inf_nan=True)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Step(_Part):
    name: Text = None
    dropped: Counts = None
    dropped_bytes: Counts = None
    split_off: Number = None


class _Steps(_Part):
    steps: list[_Step] | None = None
    read: Counts = None
    task_items: Counts = None
    decontamination: Object | None = None


class _Crawl(_Part):
    skipped: Counts = None


class _Tokens(_Part):
    documents: Object | None = None
    bytes: Object | None = None


class _Plan(_Part):
    layout: Object | None = None
    machine: Object | None = None
    memory: Object | None = None
    candidates: Objects = None
    laws: Objects = None
    shapes: Objects = None
    warnings: list[str] | None = None


class _Evaluate(_Part):
    tasks: Objects = None


class _Hans(_Part):
    cells: Objects = None
    note: Text = None


class _Occupation(_Part):
    occupation: Text = None


class _Association(_Part):
    rows: list[_Occupation] | None = None
    note: Text = None


class _Audit(_Part):
    hans: _Hans | None = None
    association: _Association | None = None


class _RecipeTasks(_Part):
    tasks: list[str] | None = None


class _Taken(_Part):
    sources: Objects = Field(default=None, alias="from")


class _Recipe(_Part):
    budget: Object | None = None
    tokens: _Taken | None = None
    train: Object | None = None
    tokenize: Object | None = None
    model: Object | None = None
    evaluate: _RecipeTasks | None = None


class _Artifact(_Part):
    stage: Text = None
    path: Text = None
    digest: Text = None


class _Expedition(_Part):
    megalith: Text = None
    name: Text = None
    about: Text = None
    recipe: _Recipe | None = None
    sources: list[str] | None = None
    versions: Object | None = None
    crawl: _Crawl | None = None
    curation: _Steps | None = None
    tokens: _Tokens | None = None
    plan: _Plan | None = None
    train: Object | None = None
    evaluate: _Evaluate | None = None
    audit: _Audit | None = None
    samples: Objects = None
    artifacts: list[_Artifact] | None = None


class _Document(_Part):
    url: Text = None
    id: Text = None
    text: Text = None
    reason: Text = None
    kept: Object | None = None


class _History(_Part):
    steps: Objects = None
    validation: Objects = None


class _Named(_Part):
    id: str


class _Cluster(_Part):
    kept: _Named
    dropped: list[_Named]


class _Histogram(_Part):
    edges: list[float]
    counts: list[int]


class _Domain(_Part):
    domain: Text


class _HeldOut(_Part):
    bins: Objects = None


class _Quality(_Part):
    held_out: _HeldOut | None = None


class _Decontamination(_Part):
    tasks: dict[str, Object] | None = None


class _Details(_Part):
    datasets: dict[str, Object] | None = None
    funnel: list[_Step] | None = None
    clusters: list[_Cluster] | None = None
    histograms: dict[str, _Histogram] | None = None
    languages: dict[str, dict[str, int]] | None = None
    domains: list[_Domain] | None = None
    decontamination: _Decontamination | None = None
    private: Counts = None
    quality: _Quality | None = None


EXPEDITION: TypeAdapter[Any] = TypeAdapter(_Expedition)
HISTORY: TypeAdapter[Any] = TypeAdapter(_History)
DETAILS: TypeAdapter[Any] = TypeAdapter(_Details)
SAMPLES: TypeAdapter[Any] = TypeAdapter(dict[str, list[_Document] | None])


def read_facts(path: Path, shape: TypeAdapter[Any], *, mend: str) -> Mapping[str, Any]:
    """Read a JSON file of the given shape. Raises InputError with the name of the first part of another form."""
    found = read_json(path, mend=mend)
    if _depth(found) > DEEPEST:
        raise InputError(f"this file is nested more than {DEEPEST} levels deep.", where=str(path), mend=mend)
    try:
        shape.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(
            f"this file is not of the form that Megalith writes: {place}: {first['msg'][0].lower()}{first['msg'][1:]}.",
            where=str(path),
            mend=mend,
        ) from error
    return dict(found)


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= DEEPEST:
        deepest += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return deepest
