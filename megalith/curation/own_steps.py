"""The user's own steps: Python functions over Arrow batches that keep, drop or tag documents.

A step is named as `module:function` or `file.py:function`. It is called with a pyarrow.RecordBatch of documents: `id`,
`url`, `text`, `language`, and the signals of the document rules under their names; it sees every document that has
text, in batches of some megabytes, and must answer for each row by that row alone. It returns one of

- booleans: whether each document is kept;
- strings: why each document is dropped, null for those that are kept;
- a mapping of names to columns: tags. One named `keep` (booleans) or `drop` (strings) decides as well.

Its answers are an artifact beside the documents; the digest of the function's file is part of its key, so an edited
function is asked again, and nothing else is made anew. What the file imports is not part of it.
"""

import functools
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from megalith.artifacts import Artifact, Workspace, file_digest, produce, whole
from megalith.curation.corpus.document_table import Columns, Partition, halves, names
from megalith.curation.corpus.languages import main_languages
from megalith.curation.corpus.table import Table
from megalith.curation.engine import Task, Told, spread
from megalith.curation.histograms import Histograms
from megalith.curation.partition import SIGNAL
from megalith.errors import InputError
from megalith.input_files import expand

STEP = "own"
REASON, TAGS = "reason", "tags"


@dataclass(frozen=True)
class OwnStep:
    """A function and the file in which it stands."""

    said: str
    file: Path
    function: str

    @property
    def where(self) -> str:
        return f"curate.own: {self.said}"

    def __call__(self, batch: pa.RecordBatch) -> Any:
        """Call the function. Raises InputError for whatever it raises, with the line."""
        function = _loaded(self.file, self.file.stat().st_mtime_ns, self.function, self.where)
        try:
            return function(batch)
        except Exception as error:
            trace = error.__traceback__
            line = None
            while trace is not None:
                if trace.tb_frame.f_code.co_filename == str(self.file):
                    line = trace.tb_lineno
                trace = trace.tb_next
            at = f" in line {line}" if line else ""
            raise InputError(
                f"the function raised {type(error).__name__}{at}: {' '.join(str(error).split())}.",
                where=self.where,
                mend="Mend it and run the same command again: it goes on from here.",
            ) from error


def own_steps(given: Sequence[str]) -> list[OwnStep]:
    """The steps of `curate.own`. Raises InputError for a file, module or function that is not there."""
    made = []
    for said in given:
        place, colon, function = said.rpartition(":")
        if not colon or not place or not function.isidentifier():
            raise InputError(
                "this names no function.", where=f"curate.own: {said}", mend="Use file.py:function or module:function."
            )
        file = expand(Path(place)) if place.endswith(".py") else _file_of(place, said)
        if not file.is_file():
            raise InputError("there is no such file.", where=f"curate.own: {said}")
        step = OwnStep(said, file.resolve(), function)
        _loaded(step.file, step.file.stat().st_mtime_ns, function, step.where)
        made.append(step)
    return made


def judge_by_own(
    path: Path, table: Table, size: int, documents: Artifact, steps: Sequence[OwnStep], told: Told
) -> Artifact:
    """The answers of the steps about all documents, at `path`: a file of reasons and tags for each partition.

    `size` is of all text, in bytes.
    """
    tasks = [partition.task for partition in table.partitions() if partition.dataset >= 0]

    def build(workspace: Workspace) -> Mapping[str, Any]:
        (workspace.path / "answers").mkdir(exist_ok=True)
        for _ in spread(AskOwn(str(workspace.path), tuple(steps)), tasks, size, told):
            pass
        return {}

    return produce(
        path,
        stage="own",
        settings={"steps": [step.function for step in steps]},
        inputs={"documents": documents.digest}
        | {f"step {number}": file_digest(step.file) for number, step in enumerate(steps)},
        seed=0,
        build=build,
    )


@dataclass(frozen=True)
class DropByOwn:
    """Drops the documents that a step drops, and counts the tags of the others."""

    answers: str

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        histograms = Histograms()
        for place, partition in enumerate(columns.partitions):
            if partition.dataset < 0:
                continue
            table = pq.read_table(_answers(self.answers, partition), use_threads=False)
            span = columns.span(place)
            reasons = np.array(table[REASON].to_pylist(), object)
            alive = columns.reason[span] == 0
            for reason in sorted({reason for reason in reasons[alive].tolist() if reason is not None}):
                columns.drop(STEP, reason, span.start + np.flatnonzero(alive & (reasons == reason)))
            _count(table[TAGS].to_pylist(), columns.reason[span] == 0, histograms)
        return {"histograms": histograms.as_json}


def write_tags(workspace: Workspace, table: Table, answers: Artifact) -> None:
    """Write `tags.parquet`: the id and the tags of each kept document that has some, by id."""
    tables = []
    for chunk in table.chunks:
        columns = table.open(chunk.number)
        for place, partition in enumerate(columns.partitions):
            if partition.dataset >= 0:
                told = pq.read_table(_answers(answers.path, partition), columns=[TAGS])
                span = columns.span(place)
                kept = pa.array(columns.reason[span] == 0)
                ids = pa.array(names(columns.identity[span]), pa.string())
                found = pa.table({"id": ids, TAGS: told[TAGS].combine_chunks()}).filter(kept)
                tables.append(found.filter(pc.field(TAGS).is_valid()))
    whole_table = pa.concat_tables(tables).sort_by([("id", "ascending"), (TAGS, "ascending")])
    if len(whole_table):
        with workspace.file("tags.parquet") as path:
            pq.write_table(whole_table, path, compression="zstd")


def _answers(place: Path | str, partition: Partition) -> Path:
    return Path(place) / "answers" / f"{partition.number:05d}.parquet"


@dataclass(frozen=True)
class AskOwn:
    """Asks the steps about the documents of a partition, unless that has been done."""

    place: str
    steps: tuple[OwnStep, ...]

    def __call__(self, task: Task) -> Mapping[str, Any]:
        path = Path(self.place) / "answers" / f"{task['number']:05d}.parquet"
        if path.is_file():
            return {}
        partition = Partition.of_task(task)
        signals = [name for name in partition.names if name.startswith(SIGNAL)]
        reasons = np.full(partition.rows, None, object)
        tags: list[dict[str, Any]] = [{} for _ in range(partition.rows)]
        sizes = partition.read(["bytes"])["bytes"].to_numpy()
        wanted = ["id", "url", "text", "languages", *signals]
        for rows, table in partition.batches(np.flatnonzero(sizes > 0), wanted):
            batch = _shown(table, signals)
            for step in self.steps:
                why, told = _answer(step, step(batch), batch.num_rows)
                for row, reason in zip(rows.tolist(), why, strict=True):
                    reasons[row] = reason if reasons[row] is None else reasons[row]
                for name, values in told.items():
                    for row, value in zip(rows.tolist(), values, strict=True):
                        tags[row][name] = value
        table = pa.table(
            {
                REASON: pa.array(reasons.tolist(), pa.string()),
                TAGS: pa.array(
                    [json.dumps(one, ensure_ascii=False, sort_keys=True, default=str) if one else None for one in tags],
                    pa.string(),
                ),
            }
        )
        with whole(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        return {}


def _shown(table: pa.Table, signals: Sequence[str]) -> pa.RecordBatch:
    columns = {
        "id": pa.array(names(halves(table["id"])), pa.string()),
        "url": table["url"].combine_chunks(),
        "text": table["text"].combine_chunks(),
        "language": pa.array(main_languages(table["languages"]), pa.string()),
        **{name.removeprefix(SIGNAL): table[name].combine_chunks() for name in signals},
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))


def _answer(step: OwnStep, given: Any, rows: int) -> tuple[list[str | None], dict[str, list[Any]]]:
    """Why each row is dropped, and its tags. Raises InputError for an answer that is none."""
    if isinstance(given, pa.RecordBatch | pa.Table):
        given = {name: given[name] for name in given.schema.names}
    if isinstance(given, Mapping):
        columns = {str(name): _listed(step, values, rows) for name, values in given.items()}
        why: list[str | None] = [None] * rows
        for name in ("keep", "drop"):
            if name in columns:
                why = [one or other for one, other in zip(why, _reasons(step, columns.pop(name)), strict=True)]
        return why, columns
    return _reasons(step, _listed(step, given, rows)), {}


def _listed(step: OwnStep, values: Any, rows: int) -> list[Any]:
    if hasattr(values, "to_pylist"):
        values = values.to_pylist()
    elif hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, list | tuple) or len(values) != rows:
        got = f"{len(values)} values" if isinstance(values, list | tuple) else type(values).__name__
        raise InputError(
            f"the function returned {got} for {rows} documents.",
            where=step.where,
            mend="Return booleans, strings or null, or a mapping of names to such columns: one value a document.",
        )
    return list(values)


def _reasons(step: OwnStep, values: Sequence[Any]) -> list[str | None]:
    if all(value is None or isinstance(value, str) for value in values):
        return [value or None for value in values]
    if all(isinstance(value, bool | np.bool_) for value in values):
        return [None if value else step.function for value in values]
    raise InputError(
        "the function returned values that are neither booleans nor strings.",
        where=step.where,
        mend="Return true for what is kept, or why it is dropped and null for what is kept.",
    )


def _count(tags: Sequence[str | None], chosen: Any, histograms: Histograms) -> None:
    numbers: dict[str, list[float]] = {}
    labels: dict[str, list[str]] = {}
    for said, wanted in zip(tags, chosen.tolist(), strict=True):
        for name, value in json.loads(said).items() if said and wanted else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(value)
            elif value is not None:
                labels.setdefault(name, []).append(str(value)[:80])
    for name, found in numbers.items():
        values = np.array(found, float)
        histograms.measure(f"tags.{name}", values[values >= 0])
    for name, told in labels.items():
        histograms.add("tags", name, np.array(told, object), np.ones(len(told), bool))


def _file_of(module: str, said: str) -> Path:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise InputError(
            "there is no such module.", where=f"curate.own: {said}", mend="Name its file: file.py:function."
        )
    return Path(found.origin)


@functools.lru_cache(maxsize=16)
def _loaded(file: Path, _: int, function: str, where: str) -> Any:
    name = f"megalith_own_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(
            f"this file cannot be run: {type(error).__name__}: {' '.join(str(error).split())}.", where=where
        ) from error
    finally:
        sys.path.remove(str(file.parent))
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(f"{file.name} has no function {function}.", where=where)
    return found
