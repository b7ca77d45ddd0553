"""The `documents` artifact: every document that was read, as text, with all that decisions look at.

A unit becomes one partition: `text/NNNNN.parquet` (a row a document), `signatures/NNNNN.u32` (a MinHash signature a
row) and `bands/NNNNN.u64` (one band after another, a key a row). Its counts, written last under `logs/units`, mark it
as whole, so a run that was killed goes on at the units that are not. Nothing is decided here but what is not worth
extracting (URLs), so thresholds can be changed and decisions taken again without reading anew.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.curation.corpus.document_table import REFERENCE, Partition
from megalith.curation.corpus.read_units import CUT_BETWEEN_LINES, Dataset, model_file, units_of, weight
from megalith.curation.daft_engine import Told, spread
from megalith.curation.partition import MapSettings, MapUnit
from megalith.curation.reading import Remote, no_usable_line
from megalith.curation.text.fasttext import read_fasttext
from megalith.errors import InputError
from megalith.recipe import CurateConfig, UrlConfig

VERSION = 2


def make_documents(path: Path, datasets: Sequence[Dataset], config: CurateConfig, told: Told) -> Artifact:
    """The documents of all `datasets` at `path`, taken up where an earlier attempt left them.

    Raises InputError when a file is damaged beyond use, the language model is none, or there is no document at all.
    """
    model = model_file(config.language_model, "curate.language_model")
    settings = MapSettings(config.extractor, config.minhash, config.urls, config.seconds_per_document, model)
    said = config.minhash.model_dump(include={"shingle_words", "bands", "rows"})
    return produce(
        path,
        stage="documents",
        settings={
            "extractor": settings.extractor,
            "minhash": said,
            "urls": settings.urls.model_dump(mode="json"),
            "seconds_per_document": settings.seconds_per_document,
            "version": VERSION,
        },
        inputs={
            f"{number} {dataset.name} {name}": file.digest if isinstance(file, Remote) else file_digest(file)
            for number, dataset in enumerate(datasets)
            for file, name in dataset.files
        }
        | {f"urls {file}": file_digest(file) for file in _lists(settings.urls)}
        | ({"language model": file_digest(model)} if model else {}),
        seed=0,  # nothing is drawn
        build=lambda workspace: _build(workspace, datasets, settings, told),
    )


def partitions_of(documents: Artifact, dataset: int | None = None) -> list[Partition]:
    """The partitions of a `documents` artifact that hold documents, all as of one `dataset` if it is given."""
    about = json.loads((documents.path / "units.json").read_text())
    return [
        Partition(documents.path, number, unit["dataset"] if dataset is None else dataset, unit["rows"])
        for number, unit in enumerate(about["units"])
        if unit["rows"] and (dataset is None or unit["dataset"] >= 0)
    ]


def _lists(rules: UrlConfig) -> list[Path]:
    """The files of the lists of URLs and words."""
    named = [Path(path) for path in (*rules.blocklists, *rules.hard_words, *rules.soft_words)]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file()]


def _build(workspace: Workspace, datasets: Sequence[Dataset], settings: MapSettings, told: Told) -> Mapping[str, Any]:
    if settings.language_model:
        read_fasttext(settings.language_model)  # a file that is none is told of before anything is read
    units = units_of(datasets)
    for folder in ("text", "signatures", "bands"):
        (workspace.path / folder).mkdir(exist_ok=True)
    (workspace.logs / "units").mkdir(exist_ok=True)
    read: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    of_file: Counter[str] = Counter()
    rows = [0] * len(units)
    work = MapUnit(str(workspace.path), settings)
    for task, answer in spread(work, [unit.task for unit in units], weight(datasets), told):
        read.update(answer["read"])
        seconds.update(answer["seconds"])
        for piece, count in zip(units[task["number"]].pieces, answer["of_piece"], strict=True):
            of_file[piece.path] += count
        rows[task["number"]] = answer["documents"]
    for unit in units:
        for piece in unit.pieces:
            if piece.part and piece.name.lower().endswith(CUT_BETWEEN_LINES) and not of_file[piece.path]:
                raise no_usable_line(piece.path)
    if not sum(rows):
        raise InputError(
            "there is no document in these sources.",
            where=", ".join(dataset.name for dataset in datasets) or "curate.sources",
            mend="Use files or directories of WARC, JSONL (with a text field), Parquet (with a text column) or text.",
        )
    pieces = [
        {
            "dataset": unit.dataset if datasets[unit.dataset].corpus else REFERENCE - unit.dataset,
            "rows": count,
            "pieces": [[piece.name, piece.part] for piece in unit.pieces],
        }
        for unit, count in zip(units, rows, strict=True)
    ]
    workspace.write_json("units.json", {"datasets": [dataset.name for dataset in datasets], "units": pieces})
    return {
        "documents": sum(rows),
        "units": len(units),
        "read": {"records": 0, "truncated": 0, "damaged": 0} | dict(sorted(read.items())),
        "seconds": {name: round(value, 3) for name, value in sorted(seconds.items())},
    }
