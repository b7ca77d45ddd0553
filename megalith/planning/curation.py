"""Cost of curating a corpus, before it is done: CPU-hours by step, bytes on disk, memory of a worker and the driver.

Straight lines in units, documents, bytes of JSON lines and of HTML, and a few limits of the code, on constants that
`calibration.fit_curation` made of runs at four sizes (`benchmarks/curate_scale.py`). Small inputs on one machine: a
prediction beyond the range that it names is extrapolation, and says so. Quality, the network and a cluster's own losses
are not in it. See docs/how-curation-scales.md.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from megalith.console import human_bytes
from megalith.errors import InputError
from megalith.planning.calibration.fit_curation import features, units_of

BUCKET_BYTES = 32e6
MOST_BUCKETS = 4096
"""Merged by the driver at a time: `curation.merge`."""
BUCKET_COPIES = 3.0
"""Assumed, not measured: a bucket as it was read, sorted, and in the row group that is written."""
OPEN_RUN_BYTES = 33.0
"""Held by the driver of an open run for each bucket in it: 134 kB of one with 4096 (measured on 300 of them)."""
MOST_OPEN = 500  # `curation.merge` opens no more runs at once
DEVIATIONS = 2.0
TASK_BYTES = 810.0
"""Held by the driver of each unit: its partition, its task, and that in JSON (measured by tracemalloc on 50,000)."""
DECIDED_BYTES = {"records": 126.0, "exchanged": 310.0}
"""Files of a document: two versions of its columns, and most that tasks exchange at a time (keys, mostly)."""
SERIAL = ("driver merge", "start and rest")
"""Steps that the driver takes on one core, however many there are; the other `driver` ones were its own once."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval of its fit: two standard deviations of runs left out. Extrapolation is not in it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurationCost:
    """Cost of a run."""

    documents: float
    units: float
    """Tasks of the map; of the second pass, and files that the driver merges, about as many."""
    steps: Mapping[str, float]
    """CPU seconds of each."""
    cpu_hours: Estimate
    serial_hours: float
    """The driver's part, which more cores do not shorten."""
    disk: Mapping[str, float]
    """Bytes of texts and signals, MinHash keys and signatures, what is kept, the runs that are merged into it, and the
    records of decisions."""
    disk_bytes: Estimate
    """All of these at once, as they are just before the end."""
    shuffled_bytes: Estimate
    """Bytes of the runs, and of what tasks exchange to decide: written, read by others, then removed."""
    worker_memory_bytes: Estimate
    driver_memory_bytes: Estimate
    notes: tuple[str, ...]
    """The range of the fit, and where this prediction leaves it."""

    def hours_on(self, cores: int) -> float:
        """Hours on so many cores like the one that was measured: the driver's own, then the rest shared evenly."""
        return self.serial_hours + (self.cpu_hours.value - self.serial_hours) / cores


def predict_curation(
    *,
    text_bytes: float = 0.0,
    warc_bytes: float = 0.0,
    documents: float | None = None,
    constants: Mapping[str, Any] | None = None,
) -> CurationCost:
    """The cost of curating `text_bytes` of JSON lines and WARC with `warc_bytes` of HTML, both unpacked.

    `documents` is by default what the measured corpora have in so many bytes; `constants` are the shipped ones.
    Raises InputError where nothing is given, or a figure is not an amount.
    """
    given = {"text": text_bytes, "warc": warc_bytes}
    counted = {"--text": text_bytes, "--warc": warc_bytes, "--documents": 1.0 if documents is None else documents}
    for name, amount in counted.items():
        if not math.isfinite(amount) or amount < 0.0:
            raise InputError(f"{amount:g} is not an amount.", where=name, mend="Use zero or more.")
    if not text_bytes + warc_bytes:
        raise InputError("both --text and --warc are missing.", mend="Set the bytes of one or both.")
    if documents == 0:
        mend = "Use one or more, or leave it out: then it is what the measured corpora have in as many bytes."
        raise InputError("bytes of no documents are nothing to curate.", where="--documents", mend=mend)
    held = shipped() if constants is None else constants
    kinds = {kind: held["kinds"][kind] for kind, size in given.items() if size}
    sizes = {kind: given[kind] for kind in kinds}
    if documents is None:
        documents = sum(kinds[kind]["documents_per_byte"] * size for kind, size in sizes.items())
    grows_with = features(text_bytes, warc_bytes)
    steps = _sums(held["steps"], grows_with)
    deciding = held["duplicates"]
    steps["duplicates"] = deciding["seconds"] + deciding["per_document"] * documents
    disk = _sums(held["disk"], grows_with)
    disk["keys"] = documents * max(about["keys_per_document"] for about in kinds.values())
    disk["records"] = documents * DECIDED_BYTES["records"]
    whole = sum(sizes.values())
    units = units_of(whole)
    spread = {name: max(about["spread"][name] for about in kinds.values()) for name in ("cpu", "disk")}
    serial = sum(seconds for name, seconds in steps.items() if name.startswith(SERIAL))
    kept = sum(kinds[kind]["kept_share"] * size for kind, size in sizes.items())
    buckets = min(MOST_BUCKETS, max(1.0, kept / BUCKET_BYTES))
    merging = BUCKET_COPIES * max(0.0, kept / MOST_BUCKETS - BUCKET_BYTES)
    merging += OPEN_RUN_BYTES * buckets * min(units, MOST_OPEN)
    worker, driver = held["worker"], held["driver"]
    settled = driver["bytes"] + driver["per_kept_byte"] * min(kept, driver["settled_at"])
    driver_bytes = settled + TASK_BYTES * units + merging
    return CurationCost(
        documents=documents,
        units=units,
        steps=steps,
        cpu_hours=_estimate(sum(steps.values()) / 3600, spread["cpu"]),
        serial_hours=serial / 3600,
        disk=disk,
        disk_bytes=_estimate(sum(disk.values()), spread["disk"]),
        shuffled_bytes=_estimate(disk["runs"] + documents * DECIDED_BYTES["exchanged"], spread["disk"]),
        worker_memory_bytes=_estimate(worker["bytes"] + worker["per_unit_byte"] * whole / units, worker["spread"]),
        driver_memory_bytes=_estimate(driver_bytes, driver["spread"]),
        notes=tuple(_notes(held, kinds, sizes, documents, units)),
    )


@functools.cache
def shipped() -> Mapping[str, Any]:
    """The constants that come with Megalith."""
    text = (resources.files("megalith.planning") / "constants" / "curation.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _sums(rates: Mapping[str, list[float]], amounts: tuple[float, ...]) -> dict[str, float]:
    return {
        name: sum(rate * amount for rate, amount in zip(found, amounts, strict=True)) for name, found in rates.items()
    }


def _estimate(value: float, spread: float) -> Estimate:
    factor = math.exp(DEVIATIONS * spread)
    return Estimate(value, value / factor, value * factor)


def _notes(
    held: Mapping[str, Any], kinds: Mapping[str, Any], sizes: Mapping[str, float], documents: float, units: float
) -> list[str]:
    notes = []
    for kind, about in kinds.items():
        least, most = about["bytes"]
        note = f"{kind} was measured from {human_bytes(int(least))} to {human_bytes(int(most))}"
        if not least <= sizes[kind] <= most:
            note += f"; {sizes[kind] / most:,.2g} times the most is extrapolation, which the intervals leave out"
        notes.append(f"{note}.")
    if documents > held["duplicates"]["documents"][1]:
        notes.append(f"Deciding was measured up to {held['duplicates']['documents'][1]:,} documents.")
    if units > MOST_OPEN:
        notes.append(f"{units:,.0f} runs are joined before they are merged, {MOST_OPEN} at a time: not counted here.")
    return notes
