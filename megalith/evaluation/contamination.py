"""Contamination: how much of a task's documents stands in the training text, and what the score is without them.

The curated corpus is read once, whatever the number of tasks: the n-grams of all documents are held (8 bytes each), and
the training text streams past them, so the memory does not depend on the corpus. Words are those of curation (in
scripts without spaces two characters are one). Two rules say which documents are dirty: any 13 words in a row (GPT-3,
appendix C), and 80 % of the words within runs of 8 that stand in the training text (Llama 2, §A.6, which takes runs of
10 tokens).
"""

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from megalith.artifacts import Workspace
from megalith.console import progress
from megalith.errors import InputError
from megalith.evaluation.measures import Measure, measures_of
from megalith.machine import usable_cores
from megalith.ngrams.find import Searched, occurring, ready
from megalith.ngrams.sorted_sets import among, different
from megalith.ngrams.words import Words, runs, words
from megalith.statistics import clustered_interval

LONG, SHORT = 13, 8
COVERED = 0.8
FEWEST = 10
"""Independent documents that clean and dirty scores need each; with fewer, no difference is told."""
RULES = {"any_13_words": f"any {LONG} words in a row", "mostly_covered": f"{COVERED:.0%} of words in runs of {SHORT}"}

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """The part of one document that stands in the training text."""

    task: str
    id: str
    words: int
    ngrams_13: int
    found_13: int
    ngrams_8: int
    found_8: int
    covered: float | None
    """Share of words within an 8-gram that stands in the training text; None below 8 words."""

    @property
    def share(self) -> float | None:
        """Share of the document's 13-grams (8-grams for shorter ones) that stand in the training text."""
        found, of = (self.found_13, self.ngrams_13) if self.ngrams_13 else (self.found_8, self.ngrams_8)
        return found / of if of else None

    def is_dirty(self, rule: str) -> bool | None:
        """The verdict of a rule; None for a document that is too short for it."""
        if rule == "mostly_covered":
            return None if self.covered is None else self.covered >= COVERED
        return self.found_13 > 0 if self.ngrams_13 else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"share": self.share} | {rule: self.is_dirty(rule) for rule in RULES}


def judge_contamination(workspace: Workspace, corpus: Path, judged: Sequence["Judged"]) -> list[dict[str, Any]]:
    """Write the overlap of every document into `contamination.jsonl`, and return the rows of clean and dirty scores.

    A task that was asked with several numbers of shots is searched for once. Raises InputError as `contamination` does.
    """
    overlaps = contamination({one.name: one.texts for one in judged}, corpus)
    with workspace.file("contamination.jsonl") as path:
        path.write_text("".join(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in overlaps))
    rows = []
    for one in judged:
        own = [overlap for overlap in overlaps if overlap.task == one.name]
        for measure in measures_of(one.results)[:1]:
            said = clean_and_dirty(own, one.results, measure)
            rows += [{"name": one.name, "shots": one.shots, **row} for row in said]
    return rows


@dataclass(frozen=True)
class Judged:
    """The documents of one task, and their results at one number of shots."""

    name: str
    shots: int
    texts: Sequence[tuple[str, str]]
    """Id and text of each document: the question with its right answer."""
    results: Sequence[Mapping[str, Any]]


def contamination(texts: Mapping[str, Sequence[tuple[str, str]]], corpus: Path) -> list[Overlap]:
    """The overlap of each document of each task, (id, text), with the training split of the `curate` artifact.

    Raises InputError where the corpus has no training text, or one of its files is damaged.
    """
    held = {task: _words([text for _, text in documents]) for task, documents in texts.items()}
    every = [one for documents in held.values() for one in documents]
    wanted = {
        size: different(np.concatenate([*(runs(one, size)[0] for one in every), np.zeros(0, np.uint64)]))
        for size in (SHORT, LONG)
    }
    found = _found(wanted, corpus)
    return [
        _overlap(task, name, own, found)
        for task, documents in texts.items()
        for (name, _), own in zip(documents, held[task], strict=True)
    ]


def clean_and_dirty(
    overlaps: Sequence[Overlap], results: Sequence[Mapping[str, Any]], measure: Measure
) -> list[dict[str, Any]]:
    """For each rule the measure over clean and over dirty documents, and the difference dirty − clean with an interval.

    Results are joined by id. Documents too short for a rule are in neither part, and counted.
    """
    by_id = {one.id: one for one in overlaps}
    scores = measure.item_scores(results).tolist()
    joined = [(by_id.get(str(result["id"])), result, score) for result, score in zip(results, scores, strict=True)]
    rows = []
    for rule, told in RULES.items():
        parts: dict[bool | None, list[tuple[float, str]]] = {False: [], True: [], None: []}
        for overlap, result, score in joined:
            verdict = overlap.is_dirty(rule) if overlap else None
            parts[verdict].append((score, str(result.get("group") or result["id"])))
        row = {"rule": rule, "says": told, "metric": measure.metric, "too_short": len(parts[None])}
        row |= {"clean": _part(parts[False], measure), "dirty": _part(parts[True], measure)}
        rows.append(row | _difference(parts[False], parts[True], measure))
    return rows


def _words(texts: Sequence[str]) -> list[Words]:
    """The words of each text, by itself."""
    found = words(pa.array([normalize("NFC", text) for text in texts], pa.large_string()))
    return [found.document(number) for number in range(len(texts))]


def _found(wanted: Mapping[int, Hashes], corpus: Path) -> dict[int, Hashes]:
    """Those of the wanted n-grams that occur in the training text, ascending, by length."""
    files = sorted((corpus / "train").glob("*.parquet"))
    if not files:
        raise InputError(
            "there is no training text here.", where=str(corpus / "train"), mend="Use a `curate` artifact."
        )
    searched = ready(wanted)
    seen = {size: np.zeros(len(hashes), bool) for size, hashes in wanted.items()}
    with progress() as bar, ThreadPoolExecutor(usable_cores()) as pool:
        line = bar.add_task("Searching the training text for the tasks", total=len(files))
        for number, found in enumerate(pool.map(partial(_search, searched), files), start=1):
            for size, there in found.items():
                seen[size] |= there
            bar.update(line, completed=number)
    return {size: hashes[seen[size]] for size, hashes in wanted.items()}


def _search(searched: Mapping[int, Searched], file: Path) -> dict[int, npt.NDArray[np.bool_]]:
    """Which of the wanted n-grams stand in one file, by length."""
    seen = {size: np.zeros(len(one.hashes), bool) for size, one in searched.items()}
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(1024, columns=["text"], use_threads=False):
                for size, hashes in occurring(batch.column("text"), searched).items():
                    seen[size][np.searchsorted(searched[size].hashes, hashes)] = True
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(
            "this is not a curated Parquet file, or it is damaged.", where=str(file), mend="Curate again."
        ) from error
    return seen


def _overlap(task: str, name: str, own: Words, found: Mapping[int, Hashes]) -> Overlap:
    long = among(runs(own, LONG)[0], found[LONG])
    rolled, firsts, lasts = runs(own, SHORT)
    short = among(rolled, found[SHORT])
    steps = np.zeros(len(own.hashes) + 1, np.int64)
    np.add.at(steps, firsts[short], 1)
    np.add.at(steps, lasts[short] + 1, -1)
    share = float((np.cumsum(steps)[:-1] > 0).mean()) if len(short) else None
    return Overlap(task, name, own.count, len(long), int(long.sum()), len(short), int(short.sum()), share)


Scored = Sequence[tuple[float, str]]
"""Item scores with their clusters."""


def _part(scored: Scored, measure: Measure) -> dict[str, Any]:
    if _units(scored) < FEWEST:
        return {"documents": len(scored), "score": None, "interval": None}
    mean, ends = _mean_and_interval(scored, measure)
    return {
        "documents": len(scored),
        "score": measure.score(mean),
        "interval": [measure.score(end) for end in ends],
    }


def _difference(clean: Scored, dirty: Scored, measure: Measure) -> dict[str, Any]:
    """Dirty − clean, two independent samples, or why it cannot be told.

    The interval is Newcombe's (1998, method 10), made of the intervals of the two scores: honest where one is 0 or 1.
    """
    few, name = min((_units(part), name) for part, name in ((clean, "clean"), (dirty, "dirty")))
    if few < FEWEST:
        told = f"cannot tell: {few} {name} document{'' if few == 1 else 's'}, and {FEWEST} are needed"
        return {"difference": None, "difference_interval": None, "note": told}
    (old, (old_low, old_high)), (new, (new_low, new_high)) = (
        _mean_and_interval(part, measure) for part in (clean, dirty)
    )
    low = new - old - math.hypot(new - new_low, old_high - old)
    high = new - old + math.hypot(new_high - new, old - old_low)
    return {
        "difference": measure.step(new - old),
        "difference_interval": [measure.step(low), measure.step(high)],
        "note": "the interval is clear of zero" if low > 0 or high < 0 else "cannot tell: the interval holds zero",
    }


def _mean_and_interval(scored: Scored, measure: Measure) -> tuple[float, tuple[float, float]]:
    scores, groups = [score for score, _ in scored], [group for _, group in scored]
    return sum(scores) / len(scores), clustered_interval(scores, groups, proportion=measure.unit == "share")


def _units(scored: Scored) -> int:
    return len({group for _, group in scored})
