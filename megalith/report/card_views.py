"""Values derived for the card: limits of the rules, samples by reason, groups of figures."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from megalith.report.formats import data, fixed, number, percent, significant, whole, words
from megalith.report.views import Headline, kept_share

Facts = Mapping[str, Any]

_EFFECTS_NOTHING = (0, 1.0, 10**9, 10**7)  # a rule's limit that no document passes


def headlines(card: Facts) -> list[Headline]:
    """Return the figures under the title."""
    splits = card["splits"]
    took = [step for step in card["steps"] if lost(step) and step["name"] != "read"]  # there, requests and the like
    strictest = max(took, key=lost, default=None)
    return [
        Headline("Documents", whole(card["documents_out"]), f"{percent(kept_share(card), 0)} of those read"),
        Headline("Text", data(card["bytes_out"]), f"of {data(card['bytes_in'])} extracted"),
        Headline("Training", whole(splits["train"]), f"documents; {whole(splits['validation'])} held out"),
        Headline("Domains", whole(card["different_domains"]), "different hosts among what is kept"),
        Headline(
            "Strictest step",
            str(strictest["name"]).replace("_", " ") if strictest else "none",
            f"dropped {whole(lost(strictest))} documents" if strictest else "nothing was dropped",
        ),
    ]


def lost(step: Facts) -> int:
    """Count the documents that a step dropped, for any reason."""
    return sum((step.get("dropped") or {}).values())


def reasons(card: Facts) -> list[tuple[str, list[tuple[str, int, int | None]]]]:
    """List each step that dropped documents with (reason, documents, bytes), the most frequent first."""
    told = []
    for step in card["steps"]:
        sizes = step.get("dropped_bytes") or {}
        rows = [(reason, many, sizes.get(reason)) for reason, many in (step.get("dropped") or {}).items() if many]
        if rows:
            told.append((str(step["name"]), sorted(rows, key=lambda row: (-row[1], row[0]))))
    return told


def samples_by_reason(card: Facts) -> list[tuple[str, str, list[Facts]]]:
    """List (step, reason, samples) of dropped documents, in the order of steps, then of the reasons' documents."""
    told = []
    for step, rows in reasons(card):
        held = card["samples"].get(step) or []
        for reason, _, _ in rows:
            found = [sample for sample in held if sample.get("reason") == reason]
            if found:
                told.append((step, reason, found))
    return told


def limits(config: Facts) -> dict[str, tuple[float, ...]]:
    """Map each histogram to the limits of the rules in the settings: `signals.words` → (50,)."""
    found: dict[str, list[float]] = {}
    for key, value in (config.get("heuristics") or {}).items():
        bound, _, signal = key.partition("_")
        if key == "mean_word_length":
            found["signals.mean_word_length"] = list(value)
        elif bound not in ("minimum", "maximum"):
            continue
        elif "ngram" in signal and isinstance(value, list | tuple):
            least = 2 if signal.startswith("top") else 5
            for length, limit in enumerate(value, least):
                found.setdefault(f"signals.{signal.replace('ngram', f'{length}gram')}", []).append(limit)
        elif number(value) is not None:
            found.setdefault(f"signals.{signal}", []).append(value)
    return {
        name: tuple(limit for limit in told if limit not in _EFFECTS_NOTHING)
        for name, told in found.items()
        if any(limit not in _EFFECTS_NOTHING for limit in told)
    }


def grouped(histograms: Sequence[tuple[str, Any]]) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Group histograms under headings: sizes and scores first, then the signals."""
    first = [(name.replace(".", ", "), drawn) for name, drawn in histograms if not name.startswith("signals.")]
    signals = [(name.removeprefix("signals."), drawn) for name, drawn in histograms if name.startswith("signals.")]
    signals.sort(key=lambda pair: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", pair[0])])
    return [group for group in (("Lengths and scores", first), ("Signals of the document rules", signals)) if group[1]]


def quality(card: Facts) -> list[tuple[str, str]]:
    """List the figures of the quality classifier, including those on held-out documents."""
    held = card["quality"] or {}
    told = []
    tested = {f"{name}, held out": value for name, value in (held.get("held_out") or {}).items()}
    for name, value in [*held.items(), *tested.items()]:
        if isinstance(value, float):
            told.append((words(name), significant(value, 4)))
        elif isinstance(value, str | int):
            told.append((words(name), value if isinstance(value, str) else whole(value)))
    return told


def calibration(card: Facts) -> list[Facts]:
    """Return the tenths of the score that contain held-out documents."""
    bins = ((card["quality"] or {}).get("held_out") or {}).get("bins") or []
    return [one for one in bins if one.get("documents")]


def languages(card: Facts) -> list[tuple[str, list[tuple[str, int, float]]]]:
    """List for each data set its (language, documents, share), the most frequent first."""
    told = []
    for name, counts in (card["languages"] or {}).items():
        total = sum(counts.values()) or 1
        rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        told.append((name, [(code, many, many / total) for code, many in rows]))
    return told


def tasks(card: Facts) -> list[tuple[str, Facts]]:
    """List the results of decontamination by task."""
    return list(((card["decontamination"] or {}).get("tasks") or {}).items())


def per_million(many: Any, documents: Any) -> str:
    """Format a count as documents in a million."""
    top, bottom = number(many), number(documents)
    return fixed(1e6 * top / bottom, 0) if top is not None and bottom else "—"
