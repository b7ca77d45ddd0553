"""The funnel: what each step dropped, why, and for the sake of which other document."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Array, Columns
from megalith.curation.reading import BESIDE
from megalith.errors import InputError

SAMPLES = 10
"""Samples of each reason, and of kept documents."""
SAMPLE_CHARACTERS = 400


class Funnel:
    """The steps taken so far on the documents of `columns`; `lines` are what the manifest's facts show of them."""

    def __init__(self, columns: Columns, seed: int) -> None:
        self.columns = columns
        self.seed = seed
        self.lines: list[dict[str, Any]] = []
        self.reasons: list[tuple[str, str]] = [("", "")]
        """Step and reason by the number that stands in `columns.reason`."""
        self._codes: dict[tuple[str, str], int] = {}
        self._passed: set[str] = set()
        self._start = time.monotonic()

    def code(self, step: str, reason: str) -> int:
        """The number that stands for a reason."""
        code = self._codes.setdefault((step, reason), len(self.reasons))
        if code == len(self.reasons):
            self.reasons.append((step, reason))
        return code

    def read(self, counts: Mapping[str, int], read_bytes: int, seconds: float) -> None:
        """Take the first step: all documents, of records of which some were passed over."""
        self.lines.append(
            {
                "name": "read",
                "documents_in": counts["records"],
                "documents_out": int((self.columns.dataset >= 0).sum()),
                "bytes_in": read_bytes,
                "bytes_out": read_bytes,
                "dropped": {reason: count for reason, count in counts.items() if count and reason not in BESIDE},
                "dropped_bytes": {},
                "split_off": 0,
                "seconds": round(seconds, 3),
            }
        )

    def drop(self, step: str, reason: str, rows: Array, kept: Array | None = None) -> None:
        """Drop rows, each for the sake of one of `kept` where they are duplicates."""
        if not len(rows):
            return
        self.columns.reason[rows] = self.code(step, reason)
        if kept is not None:
            self.columns.kept[rows] = kept

    def line(
        self,
        step: str,
        *,
        mend: str | None = None,
        seconds: float | None = None,
        split_off: int = 0,
        bytes_out: int | None = None,
    ) -> dict[str, Any]:
        """End a step: count what it dropped and what it left. Raises InputError with `mend` when nothing is left.

        `bytes_out` is given where they are not those of the texts as they were extracted, `split_off` where texts were
        cut into several. `seconds` adds what workers spent on the step before.
        """
        columns = self.columns
        self._passed.add(step)
        ours = columns.dataset >= 0
        gone = np.array([of in self._passed for of, _ in self.reasons])
        left = ours & ~gone[columns.reason]  # later steps may have judged already
        dropped: dict[str, int] = {}
        dropped_bytes: dict[str, int] = {}
        for reason, code in sorted((reason, code) for (of, reason), code in self._codes.items() if of == step):
            rows = ours & (columns.reason == code)
            dropped[reason] = int(rows.sum())
            dropped_bytes[reason] = int(columns.bytes[rows].sum(dtype=np.int64))
        documents_out = int(left.sum()) + split_off
        lost = sum(dropped.values())
        if bytes_out is None:
            bytes_out = int(columns.bytes[left].sum(dtype=np.int64))
        now = time.monotonic()
        made = {
            "name": step,
            "documents_in": documents_out - split_off + lost,
            "documents_out": documents_out,
            "bytes_in": self.lines[-1]["bytes_out"],
            "bytes_out": bytes_out,
            "dropped": dropped,
            "dropped_bytes": dropped_bytes,
            "split_off": split_off,
            "seconds": round(now - self._start + (seconds or 0.0), 3),
        }
        self._start = now
        self.lines.append(made)
        if not documents_out:
            why = ", ".join(f"{count} for {reason}" for reason, count in dropped.items())
            raise InputError(
                f"no document is left after the {step} step, which dropped the last {made['documents_in']} ({why}).",
                where="curate",
                mend=mend,
            )
        return made

    def samples(self) -> dict[str, list[dict[str, Any]]]:
        """Sample the documents that each step dropped, by reason; `kept` has samples of the others."""
        columns = self.columns
        chosen: list[tuple[str, str, Array]] = []
        shown = {line["name"] for line in self.lines} | {""}
        for step, reason in sorted(one for one in self.reasons if one[0] in shown):
            rows = np.flatnonzero((columns.reason == self._codes.get((step, reason), 0)) & (columns.dataset >= 0))
            chosen.append((step, reason, columns.drawn(rows, self.seed, SAMPLES)))
        wanted = [int(row) for _, _, rows in chosen for row in rows]
        copies = [int(columns.kept[row]) for row in wanted if columns.kept[row] >= 0]
        found = columns.take([*wanted, *copies], ["url", "text"])
        made: dict[str, list[dict[str, Any]]] = {name: [] for name in (*(line["name"] for line in self.lines), "kept")}
        for step, reason, rows in chosen:
            made[step or "kept"] += [self._shown(int(row), reason, found) for row in rows]
        return made

    def _shown(self, row: int, reason: str, found: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        shown = {
            "id": self.columns.name(row),
            "url": found[row]["url"],
            "text": found[row]["text"][:SAMPLE_CHARACTERS],
        }
        if reason:
            shown["reason"] = reason
        copy = int(self.columns.kept[row])
        if copy >= 0:
            shown["kept"] = {"id": self.columns.name(copy), "url": found[copy]["url"]}
        return shown
