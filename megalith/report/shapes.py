"""The shape of the files that the pages read: which parts are objects, lists and text. Checked before a page is made.

Figures are not checked: `formats` shows a dash for anything that is not a number. Other keys are kept as they are, so
files of earlier and later versions are read as far as they agree.
"""

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


class Part(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Step(Part):
    name: Text = None
    dropped: Counts = None
    dropped_bytes: Counts = None
    split_off: Number = None


class _Steps(Part):
    steps: list[_Step] | None = None
    read: Counts = None
    task_items: Counts = None
    decontamination: Object | None = None


class _Crawl(Part):
    skipped: Counts = None


class _Tokens(Part):
    documents: Object | None = None
    bytes: Object | None = None


class _Plan(Part):
    layout: Object | None = None
    machine: Object | None = None
    memory: Object | None = None
    candidates: Objects = None
    laws: Objects = None
    shapes: Objects = None
    warnings: list[str] | None = None


class _Evaluate(Part):
    tasks: Objects = None


class _Hans(Part):
    cells: Objects = None
    note: Text = None


class _Occupation(Part):
    occupation: Text = None


class _Association(Part):
    rows: list[_Occupation] | None = None
    note: Text = None


class _Audit(Part):
    hans: _Hans | None = None
    association: _Association | None = None


class _RecipeTasks(Part):
    tasks: list[str] | None = None


class _Taken(Part):
    sources: Objects = Field(default=None, alias="from")


class _Recipe(Part):
    budget: Object | None = None
    tokens: _Taken | None = None
    train: Object | None = None
    tokenize: Object | None = None
    model: Object | None = None
    evaluate: _RecipeTasks | None = None


class _Artifact(Part):
    stage: Text = None
    path: Text = None
    digest: Text = None


class _Expedition(Part):
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


class _Document(Part):
    url: Text = None
    id: Text = None
    text: Text = None
    reason: Text = None
    kept: Object | None = None


class _History(Part):
    steps: Objects = None
    validation: Objects = None


class _Named(Part):
    id: str


class _Cluster(Part):
    kept: _Named
    dropped: list[_Named]


class _Histogram(Part):
    edges: list[float]
    counts: list[int]


class _Domain(Part):
    domain: Text


class _HeldOut(Part):
    bins: Objects = None


class _Quality(Part):
    held_out: _HeldOut | None = None


class _Decontamination(Part):
    tasks: dict[str, Object] | None = None


class _Pair(Part):
    cosine: Number = None
    documents: list[_Document]


class _Threshold(Part):
    threshold: Number = None
    share: Number = None


class _Semantic(Part):
    model: Text = None
    thresholds: list[_Threshold] | None = None
    pairs: list[_Pair] | None = None


class _Details(Part):
    datasets: dict[str, Object] | None = None
    funnel: list[_Step] | None = None
    clusters: list[_Cluster] | None = None
    histograms: dict[str, _Histogram] | None = None
    languages: dict[str, dict[str, int]] | None = None
    domains: list[_Domain] | None = None
    decontamination: _Decontamination | None = None
    private: Counts = None
    quality: _Quality | None = None
    semantic: _Semantic | None = None


EXPEDITION: TypeAdapter[Any] = TypeAdapter(_Expedition)
HISTORY: TypeAdapter[Any] = TypeAdapter(_History)
DETAILS: TypeAdapter[Any] = TypeAdapter(_Details)
SAMPLES: TypeAdapter[Any] = TypeAdapter(dict[str, list[_Document] | None])


def read_facts(path: Path, shape: TypeAdapter[Any], *, mend: str) -> Any:
    """Read a JSON file of the given shape. Raises InputError with the name of the first part of another form."""
    return check_facts(read_json(path, mend=mend), shape, where=path, mend=mend)


def check_facts(found: Any, shape: TypeAdapter[Any], *, where: Path, mend: str) -> Any:
    """The content of a file, if it is of the given shape. Raises InputError as `read_facts` does."""
    if _depth(found) > DEEPEST:
        raise InputError(f"this file is nested more than {DEEPEST} levels deep.", where=str(where), mend=mend)
    try:
        shape.validate_python(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(
            f"this file is not of the form that Megalith writes: {place}: {first['msg'][0].lower()}{first['msg'][1:]}.",
            where=str(where),
            mend=mend,
        ) from error
    return found


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
