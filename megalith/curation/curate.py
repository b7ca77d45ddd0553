"""`curate`: from pages to documents, in the order of MT-NLG §3.

read → extract and clean → language → heuristics → exact duplicates → near-duplicates → held-out split and task items →
decontaminate → Parquet. Daft carries the documents from step to step; what each step decides depends on the documents
alone, never on the order, the layout or the number of threads they came by.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.console import progress
from megalith.curation import steps
from megalith.curation.engine import daft
from megalith.curation.funnel import Funnel
from megalith.curation.items import Continuation, LastWord, cut_items
from megalith.curation.parts import SCHEMA, write_parts
from megalith.curation.raw import Groups, group_files, label, write_raw
from megalith.recipe import CurateConfig, Recipe

VERSION = 1
STEPS = ("read", "extract", "language", "heuristics", "exact", "minhash", "held_out", "decontaminate", "write")
WORK = "work"


def curate(recipe: Recipe, path: Path, sources: Sequence[Path]) -> Artifact:
    """Documents for training and validation, and tasks cut from the latter, of what `sources` hold.

    Sources are files or directories of WARC, JSONL, Parquet or text. Of exact duplicates, the copy in the source named
    first is kept; otherwise neither the order of sources nor that of documents in them makes a difference.

    Raises InputError when a source is missing or damaged, or no document is left after some step.
    """
    groups = group_files(sources)
    return produce(
        path,
        stage="curate",
        settings={"curate": recipe.curate.model_dump(mode="json", exclude={"sources"}), "version": VERSION},
        inputs={
            f"{priority} {label(source)} {file.relative_to(source)}": file_digest(file)
            for priority, (source, files) in enumerate(groups)
            for file in files
        },
        seed=recipe.seed,
        build=lambda workspace: _build(workspace, recipe.curate, recipe.seed, groups),
    )


def _build(workspace: Workspace, config: CurateConfig, seed: int, groups: Groups) -> Mapping[str, Any]:
    funnel = Funnel(workspace.path / WORK, seed)
    with progress() as display:
        task = display.add_task("curate", total=len(STEPS))

        def begin(name: str) -> None:
            display.update(task, description=f"curate: {name}", completed=STEPS.index(name))

        begin("read")
        read = funnel.read("read", lambda place: write_raw(place, groups))
        begin("extract")
        extracted = funnel.judge(
            "extract",
            lambda documents, _: steps.extract_text(documents, config),
            mend="Try another curate.extractor.",
        )
        begin("language")
        funnel.judge(
            "language",
            lambda documents, _: steps.judge_language(documents, config),
            mend="Add to curate.languages, or lower curate.minimum_language_share.",
        )
        begin("heuristics")
        funnel.judge(
            "heuristics",
            lambda documents, _: steps.judge_heuristics(documents, config.heuristics),
            mend="Loosen these rules under curate.heuristics.",
        )
        begin("exact")
        funnel.judge("exact", lambda documents, _: steps.judge_exact_duplicates(documents))
        begin("minhash")
        funnel.judge("minhash", lambda documents, _: steps.judge_near_duplicates(documents, config.minhash))
        begin("held_out")
        funnel.judge("held_out", lambda documents, facts: _hold_out(documents, config, seed, facts))
        items: dict[str, list[dict[str, Any]]] = funnel.steps[-1].facts
        begin("decontaminate")
        last = funnel.judge(
            "decontaminate",
            lambda documents, facts: steps.decontaminate(documents, _texts(items), config.decontaminate, facts),
            mend="Give more text, or lower curate.task_items.most.",
        )
        begin("write")
        counts = {split: _write_split(workspace, funnel.documents(), split) for split in ("train", "validation")}
        for name, of_task in items.items():
            with workspace.file(f"tasks/{name}.jsonl") as file:
                lines = [f"{json.dumps(item, ensure_ascii=False)}\n" for item in of_task]
                file.write_text("".join(lines), encoding="utf-8")
        workspace.write_json("samples.json", {step.name: step.samples for step in funnel.steps})
        shutil.rmtree(funnel.work)
    return {
        "documents_in": extracted.documents_in,
        "documents_out": last.documents_out,
        "bytes_in": extracted.bytes_out,
        "bytes_out": last.bytes_out,
        "html_bytes_in": read.facts["html_bytes"],
        "read": read.facts["read"],
        "steps": [step.line for step in funnel.steps],
        "training_documents": counts["train"],
        "validation_documents": counts["validation"],
        "decontamination": last.facts,
        "task_items": {name: len(of_task) for name, of_task in items.items()},
    }


def _hold_out(documents: daft.DataFrame, config: CurateConfig, seed: int, facts: dict[str, Any]) -> daft.DataFrame:
    """The documents with their split; `facts` takes the items cut from those that are held out."""
    marked = steps.split(documents, config.validation_share, seed)
    validation = marked.where("split = 'validation'").select("id", "text").to_pylist()
    last_words, continuations = cut_items(((one["id"], one["text"]) for one in validation), config.task_items, seed)
    facts["last_word"] = [asdict(item) for item in last_words]
    facts["continuation"] = [asdict(item) for item in continuations]
    return marked


def _texts(items: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """What training must not have seen, by task."""
    return {
        "last_word": [text for item in items["last_word"] for text in LastWord(**item).texts],
        "continuation": [text for item in items["continuation"] for text in Continuation(**item).texts],
    }


def _write_split(workspace: Workspace, documents: daft.DataFrame, split: str) -> int:
    of_split = documents.where(f"split = '{split}'").select(*SCHEMA.names).sort("id")
    write_parts(of_split.to_arrow_iter(), split, workspace.file)
    return of_split.count_rows()
