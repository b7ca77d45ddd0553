"""The shape of the facts of `evaluate` and `audit` artifacts that their pages read; see `shapes`."""

from typing import Any

from pydantic import TypeAdapter

from megalith.report.shapes import Object, Part, Text


class _JudgedRow(Part):
    name: str
    shots: int
    metric: str
    note: Text = None


class _FieldRow(_JudgedRow):
    field: str
    value: str


class _CleanAndDirty(Part):
    name: str
    shots: int
    metric: str
    says: Text = None
    note: Text = None
    clean: Object
    dirty: Object


class _Judged(Part):
    tasks: list[_JudgedRow]
    by_field: list[_FieldRow] | None = None
    contamination: list[_CleanAndDirty] | None = None


class _Sample(Part):
    prompt: Text = None
    text: Text = None


class _Subcase(Part):
    heuristic: str
    label: str
    subcase: str


class _MarginCounts(Part):
    heuristic: str
    label: str
    counts: list[int]


class _MarginHistograms(Part):
    edges: list[float]
    rows: list[_MarginCounts]


class _ShotPlan(Part):
    histograms: _MarginHistograms | None = None


class _PlanTables(Part):
    counts: list[_ShotPlan] | None = None


class _Hans(Part):
    note: Text = None
    subcases: list[_Subcase] | None = None
    histograms: _MarginHistograms | None = None


class _HansShots(Part):
    tables: _PlanTables | None = None


class _Audit(Part):
    hans: _Hans | None = None
    hans_shots: _HansShots | None = None
    association: Object | None = None


AUDIT: TypeAdapter[Any] = TypeAdapter(_Audit)
EVALUATION: TypeAdapter[Any] = TypeAdapter(_Judged)
SAMPLE_TEXTS: TypeAdapter[Any] = TypeAdapter(list[_Sample])
