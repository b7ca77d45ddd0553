"""The `quality` artifact: a classifier trained on the documents at hand, and the score of every document.

It stands between the documents and the decisions (MT-NLG §3): reference text that the recipe names against raw pages.
One file of scores a partition, so that another α of the draw needs no second look at the text.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from megalith.artifacts import Artifact, Workspace, file_digest, produce, whole
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition, names
from megalith.curation.corpus.read_units import FEW_FILES, Dataset, files_of, how_of, model_file
from megalith.curation.daft_engine import Task, Told, spread
from megalith.curation.funnel import Funnel
from megalith.curation.histograms import Histograms
from megalith.curation.steps import quality
from megalith.recipe import CurateConfig, QualityConfig
from megalith.secrets import masked

MODEL = "model.safetensors"
POSITIVES, NEGATIVES = "quality positives", "quality negatives"
"""Names of the datasets of files from which only the classifier learns."""


def learnt_from(config: CurateConfig) -> list[Dataset]:
    """The files that `curate.quality` names beside datasets."""
    made = []
    for name, given in ((POSITIVES, config.quality.positives), (NEGATIVES, config.quality.negatives)):
        paths = [Path(path) for path in given if path not in config.datasets]
        if paths:
            how = how_of(config)
            files = tuple(file for path in paths for file in files_of(path, how).files)
            made.append(Dataset(name, files, corpus=False, how=replace(how, few=len(files) < FEW_FILES)))
    return made


def judge_quality(
    path: Path,
    columns: Columns,
    documents: Artifact,
    datasets: Sequence[Dataset],
    config: CurateConfig,
    seed: int,
    told: Told,
) -> Artifact:
    """The scores of all documents of `datasets` that quality is asked of, at `path`.

    What is learnt from depends on the documents that reach this step, so on the filters before it. Raises InputError
    where there is too little to learn from.
    """
    model = model_file(config.quality.model, "curate.quality.model")
    return produce(
        path,
        stage="quality",
        settings={
            "quality": masked(config.quality.model_dump(mode="json", exclude={"pareto_alpha", "threshold", "model"})),
            "before": config.model_dump(
                mode="json", include={"languages", "minimum_language_share", "urls", "heuristics"}
            ),
            "datasets": [[one.name, one.language, one.heuristics, one.quality, one.corpus] for one in datasets],
        },
        inputs={"documents": documents.digest} | ({"model": file_digest(model)} if model else {}),
        seed=seed,
        build=lambda workspace: _build(workspace, columns, datasets, config.quality, seed, told),
    )


def drop_by_quality(
    columns: Columns,
    scores: Artifact,
    datasets: Sequence[Dataset],
    config: QualityConfig,
    seed: int,
    funnel: Funnel,
    histograms: Histograms,
) -> None:
    """Take the scores into the columns, and drop documents by their draws (Pareto, α), or by the threshold."""
    for place, partition in enumerate(columns.partitions):
        if partition.dataset < 0 or not datasets[partition.dataset].quality:
            continue
        found = np.fromfile(scores.path / "scores" / f"{partition.number:05d}.f32", np.float32)
        span = columns.span(place)
        columns.quality[span] = found
        rows = span.start + np.flatnonzero(columns.reason[span] == 0)
        histograms.measure("quality", columns.quality[rows])
        if config.threshold is not None:
            funnel.drop("quality", "quality under the threshold", rows[columns.quality[rows] < config.threshold])
            continue
        kept = quality.kept(columns.quality[rows], names(columns.identity[rows]), config.pareto_alpha, seed)
        funnel.drop("quality", "quality", rows[~kept])


def _build(
    workspace: Workspace,
    columns: Columns,
    datasets: Sequence[Dataset],
    config: QualityConfig,
    seed: int,
    told: Told,
) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    model = workspace.path / MODEL
    if config.model is None:
        if not model.is_file():
            positives = _rows(columns, datasets, lambda one: _is_named(one, config.positives, POSITIVES))
            if config.negatives:
                negatives = _rows(columns, datasets, lambda one: _is_named(one, config.negatives, NEGATIVES))
            else:
                judged = _rows(columns, datasets, _is_judged)
                negatives = judged[columns.reason[judged] == 0]
            most = config.documents_per_class
            trained = quality.train(
                _texts(columns, columns.drawn(positives, seed, most)),
                _texts(columns, columns.drawn(negatives, seed, most)),
                config,
                seed,
                workspace.path,
            )
            with workspace.file(MODEL) as file:
                trained.save(file)
        trained = quality.Classifier.load(model)
        facts["documents_per_class"] = trained.documents_per_class
        facts["held_out"] = asdict(trained.held_out)
    (workspace.path / "scores").mkdir(exist_ok=True)
    tasks = [
        partition.task
        for partition in columns.partitions
        if partition.dataset >= 0 and _is_judged(datasets[partition.dataset])
    ]
    for _ in spread(ScoreUnit(str(workspace.path), config), tasks, int(columns.bytes.sum(dtype=np.int64)), told):
        pass
    return facts


@dataclass(frozen=True)
class ScoreUnit:
    """Scores the documents of a partition, unless that has been done."""

    place: str
    config: QualityConfig

    def __call__(self, task: Task) -> Mapping[str, Any]:
        place = Path(self.place)
        path = place / "scores" / f"{task['number']:05d}.f32"
        if not path.is_file():
            model = place / MODEL
            judge = _judge(self.config, model, model.stat().st_mtime_ns if model.is_file() else 0)
            with whole(path) as temporary, temporary.open("wb") as file:
                for texts in _column(Partition.of_task(task).text):
                    file.write(np.asarray(judge.scores(texts), np.float32).tobytes())
        return {}


@functools.lru_cache(maxsize=1)
def _judge(config: QualityConfig, model: Path, _: int) -> quality.Judge:
    return quality.load_judge(config) or quality.Classifier.load(model)


def _column(path: Path) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=["text"], use_threads=False)["text"].combine_chunks()


def _is_named(dataset: Dataset, told: Sequence[str], given: str) -> bool:
    return dataset.name in told if dataset.corpus else dataset.name == given


def _is_judged(dataset: Dataset) -> bool:
    return dataset.corpus and dataset.quality


def _rows(columns: Columns, datasets: Sequence[Dataset], wanted: Callable[[Dataset], bool]) -> Array:
    """The documents with text of the datasets that are wanted."""
    chosen = [
        np.arange(columns.span(place).start, columns.span(place).stop)
        for place, partition in enumerate(columns.partitions)
        if partition.dataset != EARLIER and wanted(datasets[partition.of])
    ]
    rows = np.concatenate([np.zeros(0, np.int64), *chosen])
    with_text: Array = rows[columns.bytes[rows] > 0]
    return with_text


def _texts(columns: Columns, rows: Array) -> Iterator[str]:
    for _, table in columns.batches(np.sort(rows), ["text"]):
        yield from table["text"].to_pylist()
