"""The funnel: steps that judge every document, each materialised once, counted, and sampled.

A step writes all documents that came to it, with a `reason` for those it drops, as Parquet; its line in the funnel is
written last and marks the step as whole. So a run that was killed goes on at the step it had reached. Only the pieces
of the newest step stay.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from megalith.curation.draw import draw
from megalith.curation.engine import daft
from megalith.errors import InputError

SAMPLES = 10
SAMPLE_CHARACTERS = 400
JUDGEMENT = ("reason", "kept_id", "kept_url")
"""The columns a step may add to say what it drops, and for the sake of which other document."""


@dataclass(frozen=True)
class Step:
    """One line of the funnel."""

    name: str
    documents_in: int
    documents_out: int
    bytes_in: int
    bytes_out: int
    dropped: dict[str, int]
    """Reason → documents."""
    split_off: int
    """Documents gained where one was cut into several: documents_in − dropped + split_off = documents_out."""
    seconds: float
    samples: list[dict[str, Any]]
    """Of what it dropped."""
    facts: dict[str, Any]
    """What else the step has to say."""

    @property
    def line(self) -> dict[str, Any]:
        """The step without its samples and facts."""
        return {key: value for key, value in asdict(self).items() if key not in ("samples", "facts")}


class Funnel:
    """The steps taken so far, and the documents that passed them all."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work = work
        self.seed = seed
        self.steps: list[Step] = []
        work.mkdir(parents=True, exist_ok=True)

    def documents(self) -> daft.DataFrame:
        """What the last step let through."""
        pieces = self._pieces(self.steps[-1].name)
        return pieces.where(daft.col("reason").is_null()).exclude(*JUDGEMENT)

    def read(self, name: str, write: Callable[[Path], Step]) -> Step:
        """Take the first step: `write` fills a directory with Parquet files and counts what it wrote."""
        return self._take(name, lambda place, start: write(place))

    def judge(
        self,
        name: str,
        plan: Callable[[daft.DataFrame, dict[str, Any]], daft.DataFrame],
        *,
        mend: str | None = None,
    ) -> Step:
        """Take a step: `plan` turns the documents into documents with a `reason` where one is dropped.

        `plan` may leave facts in the mapping it is given. Raises InputError with `mend` when no document is left.
        """

        def write(place: Path, start: float) -> Step:
            before = self.steps[-1]
            facts: dict[str, Any] = {}
            frame = plan(self.documents(), facts)
            lacking = [column for column in JUDGEMENT if column not in frame.column_names]
            frame = frame.with_columns({column: daft.lit(None).cast(daft.DataType.string()) for column in lacking})
            frame.write_parquet(str(place))
            return self._count(name, before, facts, start)

        step = self._take(name, write)
        if step.documents_out == 0:
            dropped = ", ".join(f"{count} for {reason}" for reason, count in step.dropped.items())
            raise InputError(
                f"no document is left after the {name} step, which dropped the last {step.documents_in} ({dropped}).",
                where="curate",
                mend=mend,
            )
        return step

    def _take(self, name: str, write: Callable[[Path, float], Step]) -> Step:
        line = self.work / f"{name}.json"
        if line.is_file():
            step = Step(**json.loads(line.read_text()))
        else:
            place = self.work / name
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            try:
                step = write(place, time.monotonic())
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)  # a full disk, say: nothing half-written stays
                raise
            unfinished = line.with_suffix(".unfinished")
            try:
                unfinished.write_text(json.dumps(asdict(step)))
                unfinished.replace(line)
            finally:
                unfinished.unlink(missing_ok=True)
        if self.steps:
            shutil.rmtree(self.work / self.steps[-1].name, ignore_errors=True)
        self.steps.append(step)
        return step

    def _pieces(self, name: str) -> daft.DataFrame:
        return daft.read_parquet(str(self.work / name / "*.parquet"))

    def _count(self, name: str, before: Step, facts: dict[str, Any], start: float) -> Step:
        """The line of the step whose pieces stand written."""
        judged = self._pieces(name)
        kept = judged.where(daft.col("reason").is_null())
        totals = kept.agg(
            daft.col("bytes").sum().alias("bytes"), daft.col("row").count().alias("documents")
        ).to_pydict()
        lost = judged.where(~daft.col("reason").is_null()).select("row", "id", "url", "reason").to_pylist()
        dropped: dict[str, int] = {}
        for reason in sorted(document["reason"] for document in lost):
            dropped[reason] = dropped.get(reason, 0) + 1
        documents_out = int(totals["documents"][0])
        return Step(
            name=name,
            documents_in=before.documents_out,
            documents_out=documents_out,
            bytes_in=before.bytes_out,
            bytes_out=int(totals["bytes"][0] or 0),
            dropped=dropped,
            split_off=documents_out - (before.documents_out - len(lost)),
            seconds=round(time.monotonic() - start, 3),
            samples=self._samples(judged, lost),
            facts=facts,
        )

    def _samples(self, judged: daft.DataFrame, lost: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ten of the dropped documents, drawn by their ids."""
        if not lost:
            return []

        def order(document: Mapping[str, Any]) -> tuple[float, str, str]:
            name = f"{document['id']} {document['url'] or ''}"
            return draw(self.seed, "sample", name), name, document["reason"]

        rows = [document["row"] for document in sorted(lost, key=order)[:SAMPLES]]
        found = judged.where(daft.col("row").is_in(rows)).to_pylist()
        return [
            {
                "id": document["id"],
                "url": document["url"],
                "reason": document["reason"],
                "text": document["text"][:SAMPLE_CHARACTERS],
                **({"kept": {"id": document["kept_id"], "url": document["kept_url"]}} if document["kept_id"] else {}),
            }
            for document in sorted(found, key=order)
        ]
