"""The funnel: how many documents each step dropped, and why; samples of them with what they were dropped for."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from megalith.curation.reading import BESIDE
from megalith.errors import InputError


class Funnel:
    """The steps taken so far; `lines` are what the manifest's facts show of them."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.came: dict[int, list[int]] = {}
        """Documents and bytes of text of each data set, as they were read."""
        self.dropped: dict[tuple[int, str, str], list[int]] = {}
        """Documents and bytes by data set, step and reason."""
        self._passed: set[str] = set()
        self._start = time.monotonic()

    def come(self, counts: Iterable[Sequence[int]]) -> None:
        """Count in data sets, documents and bytes that were read."""
        for dataset, *amounts in counts:
            _add(self.came.setdefault(dataset, [0, 0]), amounts)

    def drop(self, counts: Iterable[Sequence[Any]]) -> None:
        """Count what a pass has dropped: data set, step, reason, documents, bytes; none but those of ours count."""
        for dataset, step, reason, *amounts in counts:
            if dataset >= 0:
                _add(self.dropped.setdefault((dataset, step, reason), [0, 0]), amounts)

    @property
    def size(self) -> int:
        """Bytes of all texts that were read."""
        return sum(size for _, size in self.came.values())

    def left(self, dataset: int | None = None) -> tuple[int, int]:
        """Documents and bytes that nothing has dropped, of one data set or of all."""
        came = [one for of, one in self.came.items() if dataset in (None, of)]
        gone = [one for (of, _, _), one in self.dropped.items() if dataset in (None, of)]
        documents, size = ((sum(one[n] for one in came) - sum(one[n] for one in gone)) for n in (0, 1))
        return documents, size

    def read(self, counts: Mapping[str, int], read_bytes: int, seconds: float) -> None:
        """Take the first step: all documents, of records of which some were passed over."""
        self.lines.append(
            {
                "name": "read",
                "documents_in": counts["records"],
                "documents_out": sum(documents for documents, _ in self.came.values()),
                "bytes_in": read_bytes,
                "bytes_out": read_bytes,
                "dropped": {reason: count for reason, count in counts.items() if count and reason not in BESIDE},
                "dropped_bytes": {},
                "split_off": 0,
                "seconds": round(seconds, 3),
            }
        )

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
        cut into several. `seconds` adds what workers spent on the step before. Later steps may have dropped already.
        """
        self._passed.add(step)
        of_step: dict[str, list[int]] = {}
        documents, size = (sum(one[n] for one in self.came.values()) for n in (0, 1))
        for (_, of, reason), amounts in self.dropped.items():
            if of == step:
                _add(of_step.setdefault(reason, [0, 0]), amounts)
            if of in self._passed:
                documents -= amounts[0]
                size -= amounts[1]
        dropped = {reason: of_step[reason][0] for reason in sorted(of_step)}
        documents_out = documents + split_off
        now = time.monotonic()
        made = {
            "name": step,
            "documents_in": documents + sum(dropped.values()),
            "documents_out": documents_out,
            "bytes_in": self.lines[-1]["bytes_out"],
            "bytes_out": size if bytes_out is None else bytes_out,
            "dropped": dropped,
            "dropped_bytes": {reason: of_step[reason][1] for reason in sorted(of_step)},
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


def _add(held: list[int], amounts: Sequence[int]) -> None:
    for place, amount in enumerate(amounts):
        held[place] += amount
