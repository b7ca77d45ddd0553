"""The `quality` artifact: a classifier trained on the documents at hand, and the score of every document.

It stands between the documents and the decisions (MT-NLG §3): reference text that the recipe names against raw pages.
One file of scores a partition, so that another α of the draw needs no second look at the text.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from megalith.artifacts import Artifact, Workspace, file_digest, produce, whole
from megalith.curation.corpus.document_table import EARLIER, Array, Columns, Partition, names
from megalith.curation.corpus.read_units import FEW_FILES, Dataset, files_of, how_of, model_file
from megalith.curation.corpus.table import Table
from megalith.curation.engine import Task, Told, spread
from megalith.curation.histograms import Histograms
from megalith.curation.passes import Decisions
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
    decisions: Decisions,
    documents: Artifact,
    datasets: Sequence[Dataset],
    config: CurateConfig,
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
        seed=decisions.seed,
        build=lambda workspace: _build(workspace, decisions, datasets, config.quality, told),
    )


@dataclass(frozen=True)
class DropByQuality:
    """Takes the scores into the columns, and drops documents by their draws (Pareto, α), or by the threshold."""

    scores: str
    judged: tuple[bool, ...]
    config: QualityConfig
    seed: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        config, histograms = self.config, Histograms()
        for place, partition in enumerate(columns.partitions):
            if partition.dataset < 0 or not self.judged[partition.dataset]:
                continue
            found = np.fromfile(Path(self.scores) / f"{partition.number:05d}.f32", np.float32)
            span = columns.span(place)
            columns.quality[span] = found
            rows = span.start + np.flatnonzero(columns.reason[span] == 0)
            histograms.measure("quality", columns.quality[rows])
            if config.threshold is not None:
                lost = rows[columns.quality[rows] < config.threshold]
                columns.drop("quality", "quality under the threshold", lost)
                continue
            kept = quality.kept(columns.quality[rows], names(columns.identity[rows]), config.pareto_alpha, self.seed)
            columns.drop("quality", "quality", rows[~kept])
        return {"histograms": histograms.as_json}


def drop_by_quality(
    decisions: Decisions, scores: Artifact, datasets: Sequence[Dataset], config: QualityConfig, histograms: Histograms
) -> None:
    """Drop documents by their scores."""
    work = DropByQuality(str(scores.path / "scores"), tuple(one.quality for one in datasets), config, decisions.seed)
    decisions.change(work, lambda answer: histograms.merge(answer["histograms"]))


def _build(
    workspace: Workspace, decisions: Decisions, datasets: Sequence[Dataset], config: QualityConfig, told: Told
) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    model = workspace.path / MODEL
    if config.model is None:
        if not model.is_file():
            classes = [
                [_is_named(one, config.positives, POSITIVES) for one in datasets],
                [
                    _is_named(one, config.negatives, NEGATIVES) if config.negatives else _is_judged(one)
                    for one in datasets
                ],
            ]
            alive = (False, not config.negatives)
            positives, negatives = (
                decisions.drawn(WithText(tuple(wanted), left), config.documents_per_class)
                for wanted, left in zip(classes, alive, strict=True)
            )
            trained = quality.train(
                _texts(decisions.table, positives),
                _texts(decisions.table, negatives),
                config,
                decisions.seed,
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
        for partition in decisions.table.partitions()
        if partition.dataset >= 0 and _is_judged(datasets[partition.dataset])
    ]
    for _ in spread(ScoreUnit(str(workspace.path), config), tasks, decisions.funnel.size, told):
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


@dataclass(frozen=True)
class WithText:
    """The rows with text of the datasets that are wanted; with `alive`, of those that nothing has dropped."""

    wanted: tuple[bool, ...]
    alive: bool

    def __call__(self, columns: Columns) -> Array:
        chosen = [
            np.arange(columns.span(place).start, columns.span(place).stop)
            for place, partition in enumerate(columns.partitions)
            if partition.dataset != EARLIER and self.wanted[partition.of]
        ]
        rows = np.concatenate([np.zeros(0, np.int64), *chosen])
        rows = rows[columns.bytes[rows] > 0]
        chosen_rows: Array = rows[columns.reason[rows] == 0] if self.alive else rows
        return chosen_rows


def _texts(table: Table, rows: Array) -> Iterator[str]:
    for _, batch in table.batches(np.sort(rows), ["text"]):
        yield from batch["text"].to_pylist()
