"""`curate`: from pages to documents, in the order of MT-NLG §3.

The map (read → URLs → extract and clean → language and document rules as signals → MinHash) leaves the `documents`
artifact. Decisions on its small columns follow: language, document rules, quality, exact duplicates, near-duplicates,
the held-out split and its task items; then two passes over the texts that are kept: decontaminate, mask, write in the
order of ids. What each step decides depends on the documents alone, never on the order, the layout, the engine or the
number of cores they came by.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.console import note, progress
from megalith.curation import decide
from megalith.curation.card_data import dataset_figures, details
from megalith.curation.copies import write_dropped, write_json_lines
from megalith.curation.corpus.against import Earlier, open_earlier
from megalith.curation.corpus.against import write_kept as write_earlier
from megalith.curation.corpus.document_table import Array, Columns, halves, names
from megalith.curation.corpus.documents import make_documents, partitions_of
from megalith.curation.corpus.read_units import FILTERS, Dataset, datasets_of, model_file
from megalith.curation.corpus.table import Table
from megalith.curation.embeddings import (
    STEP,
    Open,
    SemanticModel,
    embed_documents,
    semantic_model,
    standing_in_order,
)
from megalith.curation.engine import Told, processes_ended
from megalith.curation.histograms import Histograms
from megalith.curation.own_steps import DropByOwn, OwnStep, judge_by_own, own_steps, write_tags
from megalith.curation.passes import Decisions
from megalith.curation.runs import SPLITS
from megalith.curation.samples import samples
from megalith.curation.scores import drop_by_quality, judge_quality, learnt_from
from megalith.curation.semantic import drop_semantic_duplicates
from megalith.curation.steps.pii import mask
from megalith.curation.steps.task_items import Continuation, LastWord, cut_items
from megalith.curation.steps.task_texts import Items, read_items, task_files
from megalith.curation.write import WORK, write_kept
from megalith.recipe import CurateConfig, Recipe, UrlConfig
from megalith.secrets import masked

VERSION = 3
DECISIONS = "decisions"
"""Where tasks exchange records to decide, in the artifact while it is made; made anew after a kill."""
LOADING = 4
"""Reading a document's columns and judging it by its signals costs so many times a look at the columns."""
ITEM_DOCUMENTS = 2000
"""Items are cut from so many held-out documents at most, drawn by their ids."""


def curate(recipe: Recipe, path: Path, sources: Sequence[Path], *, open_embedder: Open | None = None) -> Artifact:
    """Documents for training and validation, and tasks cut from the latter, of what `sources` hold.

    Sources are files or directories of WARC, JSONL, Parquet or text; one that `curate.datasets` names takes its name
    and filters. Of duplicates, the copy in the source named first is kept; otherwise neither the order of sources nor
    that of documents in them makes a difference. The documents as they were read, and their scores where quality is
    judged, are artifacts of their own beside `path`. `open_embedder` opens the model of `curate.semantic`; by default
    one of ours.

    Raises InputError when a source is missing or damaged, or no document is left after some step.
    """
    config = recipe.curate
    datasets = [*datasets_of(sources, config), *learnt_from(config)]
    against, model = open_earlier(config), model_file(config.quality.model, "curate.quality.model")
    tasks, own = task_files(config.decontaminate), own_steps(config.own)
    embedder = semantic_model(config.semantic, open_embedder)
    with progress() as display, processes_ended():
        bar = display.add_task("curate", total=None)

        def begin(name: str) -> Told:
            display.update(bar, description=f"curate: {name}", completed=0, total=None)
            return lambda done, total: display.update(bar, completed=done, total=total)

        place = path.with_name(f"{path.name}-documents")
        documents = make_documents(place, datasets, config, begin("read and extract"))
        given = _Given(path, config, recipe.seed, datasets, documents, against, tasks, own, embedder, begin)
        licences = _licences(config)
        return produce(
            path,
            stage="curate",
            settings={
                "curate": masked(config.model_dump(mode="json", exclude={"sources", "datasets", "against", STEP})),
                **({STEP: config.semantic.model_dump(mode="json", exclude={"model"})} if embedder else {}),
                "datasets": [[one.name, *(getattr(one, name) for name in FILTERS)] for one in datasets],
                **({"licences": licences} if licences else {}),
                "version": VERSION,
            },
            inputs={"documents": documents.digest}
            | {f"against {number}": one.digest for number, one in enumerate(against)}
            | {f"task {task} {n}": file_digest(file) for task, files in tasks.items() for n, file in enumerate(files)}
            | {f"own {number}": file_digest(step.file) for number, step in enumerate(own)}
            | ({"quality model": file_digest(model)} if model else {})
            | ({f"semantic model {name}": one for name, one in embedder.digests.items()} if embedder else {}),
            seed=recipe.seed,
            build=lambda workspace: _build(workspace, given),
        )


@dataclass(frozen=True)
class _Given:
    path: Path
    config: CurateConfig
    seed: int
    datasets: Sequence[Dataset]
    documents: Artifact
    against: Sequence[Earlier]
    task_files: Mapping[str, Sequence[Path]]
    own: Sequence[OwnStep]
    embedder: SemanticModel | None
    begin: Callable[[str], Told]


def _build(workspace: Workspace, given: _Given) -> Mapping[str, Any]:
    config, begin = given.config, given.begin
    earlier = [partition for one in given.against for partition in one.partitions]
    work = workspace.path / DECISIONS
    shutil.rmtree(work, ignore_errors=True)
    table = Table.create(work / "table", [*partitions_of(given.documents), *earlier])
    decisions, histograms = Decisions(table, work, given.seed), Histograms()
    funnel = decisions.funnel
    html_bytes = _judge_one_by_one(decisions, histograms, given)
    answers = _judge_by_own(decisions, histograms, given)
    quality = _judge_quality(decisions, histograms, given)
    decide.drop_exact_duplicates(decisions, begin("exact duplicates"))
    funnel.line("exact")
    cut_short = decide.drop_near_duplicates(decisions, config.minhash, begin("near-duplicates"))
    funnel.line("minhash", seconds=given.documents.facts["seconds"].get("minhash", 0.0))
    semantic = _drop_semantic(workspace, decisions, given)
    if any(dataset.most_documents is not None for dataset in given.datasets):
        decide.cap(decisions, given.datasets)
        funnel.line("most_documents")
    begin("held out")
    if not decide.hold_out(decisions, config.validation_share):
        note("one document is left, so that none is held out: a model cannot be trained on it")
    items = _cut_items(decisions, config)
    funnel.line("held_out")
    decisions.look(MeasureBytes(), lambda answer: histograms.merge(answer))
    by_dataset = dataset_figures(funnel, given.datasets, _licences(config))
    kept = write_kept(workspace, decisions, _all_tasks(items, given), config, given.datasets, begin)
    for task, of_task in items.items():
        with workspace.file(f"tasks/{task}.jsonl") as file:
            lines = [f"{json.dumps(item, ensure_ascii=False)}\n" for item in of_task]
            file.write_text("".join(lines), encoding="utf-8")
    if config.jsonl:
        for split in SPLITS:
            write_json_lines(workspace, split)
    if config.keep_dropped:
        begin("dropped documents")
        write_dropped(workspace.logs / "dropped", decisions.table)
    if answers is not None:
        write_tags(workspace, decisions.table, answers)
    begin("samples")
    workspace.write_json("samples.json", samples(decisions))
    lines_cut = given.documents.facts["lines_cut"]
    shown = details(decisions, histograms, kept, lines_cut) | {"datasets": by_dataset} | semantic
    workspace.write_json("details.json", shown)
    shutil.rmtree(kept.work)
    shutil.rmtree(work)
    (extracted,) = (line for line in funnel.lines if line["name"] == "extract")
    return {
        "documents_in": extracted["documents_in"],
        "documents_out": funnel.lines[-1]["documents_out"],
        "bytes_in": extracted["bytes_out"],
        "bytes_out": funnel.lines[-1]["bytes_out"],
        "html_bytes_in": html_bytes,
        "read": given.documents.facts["read"],
        "steps": funnel.lines,
        "training_documents": kept.documents["train"],
        "validation_documents": kept.documents["validation"],
        "datasets": by_dataset,
        "buckets_cut_short": cut_short,
        "quality": quality,
        "decontamination": kept.decontamination,
        "repeats": dict(kept.repeats),
        "lines_cut": lines_cut,
        "private": dict(kept.private),
        "task_items": {name: len(of_task) for name, of_task in items.items()},
        "documents": given.documents.path.name,
    }


def _drop_semantic(workspace: Workspace, decisions: Decisions, given: _Given) -> dict[str, Any]:
    if given.embedder is None:
        return {}
    config = given.config.semantic
    standing = standing_in_order(decisions.table)
    place = given.path.with_name(f"{given.path.name}-{STEP}")
    embeddings = embed_documents(place, decisions.table, standing, given.embedder, config, given.begin("embeddings"))
    work = workspace.path / WORK / STEP
    told = drop_semantic_duplicates(work, decisions, standing, embeddings, config, given.begin)
    decisions.funnel.line(STEP, mend="Raise curate.semantic.threshold.")
    return {STEP: told | {"model": given.embedder.path.name}}


def _licences(config: CurateConfig) -> dict[str, str]:
    return {name: dataset.licence for name, dataset in config.datasets.items() if dataset.licence}


def _judge_one_by_one(decisions: Decisions, histograms: Histograms, given: _Given) -> int:
    """The steps that look at one document alone. Returns the bytes of HTML that were read."""
    config, funnel = given.config, decisions.funnel
    facts = given.documents.facts
    spent: Mapping[str, float] = facts["seconds"]
    sums = {"read_bytes": 0, "html_bytes": 0, "refused_bytes": 0}

    def take(answer: Mapping[str, Any]) -> None:
        funnel.come(answer["came"])
        histograms.merge(answer["histograms"])
        for name in sums:
            sums[name] += answer[name]

    filters = tuple(replace(dataset, files=()) for dataset in given.datasets)
    work = decide.Load(filters, config, write_earlier(given.against, decisions.work))
    told = given.begin("language and rules")
    decisions.change(work, take, told=told, first=True, weight=LOADING * decisions.weight)
    funnel.read(facts["read"], sums["read_bytes"], spent.get("read", 0.0))
    left = sums["read_bytes"]
    if config.urls != UrlConfig():
        left -= sums["refused_bytes"]
        funnel.line("urls", bytes_out=left, seconds=spent.get("urls"), mend="Shorten the lists of curate.urls.")
    funnel.line("extract", seconds=spent.get("extract"), mend="Try another curate.extractor.")
    funnel.line(
        "language",
        seconds=spent.get("language"),
        mend="Add to curate.languages, or lower curate.minimum_language_share.",
    )
    funnel.line("heuristics", seconds=spent.get("heuristics"), mend="Loosen these rules under curate.heuristics.")
    return sums["html_bytes"]


def _judge_by_own(decisions: Decisions, histograms: Histograms, given: _Given) -> Artifact | None:
    if not given.own:
        return None
    told = given.begin("steps of your own")
    path = given.path.with_name(f"{given.path.name}-own")
    answers = judge_by_own(path, decisions.table, decisions.funnel.size, given.documents, given.own, told)
    decisions.change(DropByOwn(str(answers.path)), lambda answer: histograms.merge(answer["histograms"]))
    decisions.funnel.line("own", mend="Loosen the functions of curate.own.")
    return answers


def _judge_quality(decisions: Decisions, histograms: Histograms, given: _Given) -> Mapping[str, Any] | None:
    config = given.config
    if not config.quality.positives and not config.quality.model:
        return None
    place = given.path.with_name(f"{given.path.name}-quality")
    scores = judge_quality(place, decisions, given.documents, given.datasets, config, given.begin("quality"))
    drop_by_quality(decisions, scores, given.datasets, config.quality, histograms)
    decisions.funnel.line("quality", mend="Lower curate.quality.pareto_alpha, or curate.quality.threshold.")
    return scores.facts


def _cut_items(decisions: Decisions, config: CurateConfig) -> dict[str, list[dict[str, Any]]]:
    """The items of the tasks that are cut from held-out documents."""
    held_out = decisions.drawn(HeldOut(), ITEM_DOCUMENTS)
    documents = (
        (name, text)
        for _, batch in decisions.table.batches(np.sort(held_out), ["id", "text"])
        for name, text in zip(
            names(halves(batch["id"])),
            mask(batch["text"].combine_chunks(), config.private)[0].to_pylist(),
            strict=True,
        )
    )
    last_words, continuations = cut_items(documents, config.task_items, decisions.seed)
    return {
        "last_word": [asdict(item) for item in last_words],
        "continuation": [asdict(item) for item in continuations],
    }


@dataclass(frozen=True)
class HeldOut:
    """The documents that are held out."""

    def __call__(self, columns: Columns) -> Array:
        alive = columns.alive
        return alive[columns.validation[alive]]


@dataclass(frozen=True)
class MeasureBytes:
    """Counts how long the documents are that are left."""

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        histograms = Histograms()
        histograms.measure("bytes", columns.bytes[columns.alive])
        return histograms.as_json


def _all_tasks(items: Mapping[str, Sequence[Mapping[str, Any]]], given: _Given) -> dict[str, Items]:
    """The texts that training must not have seen, by task."""
    settings = given.config.decontaminate.tasks
    return {
        "last_word": [(item["id"], LastWord(**item).texts) for item in items["last_word"]],
        "continuation": [(item["id"], Continuation(**item).texts) for item in items["continuation"]],
        **{task: read_items(task, files, settings[task]) for task, files in given.task_files.items()},
    }
