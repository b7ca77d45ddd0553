"""Per-item results of an evaluation as rows to read: read from the artifact's files, bounded, and told in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.input_files import parse_json
from megalith.report.formats import fixed, number

Result = Mapping[str, Any]

SNIPPET, LONGEST = 140, 1200
"""Characters of a text in its line, and in full."""


@dataclass(frozen=True)
class ItemRow:
    """One item as it is listed."""

    task: str
    id: str
    outcome: str
    """right, wrong, tied, or nothing where there is no right answer."""
    expected: str
    said: str
    figure: str
    """The margin in nats, the log-probability, or bits per byte."""
    end: str
    """The last characters of the prompt, which hold the question."""
    text: str
    """The prompt, cut where it is very long; empty where `end` is all of it."""


def read_results(path: Path) -> list[Result]:
    """The results of one file. Raises InputError at a line that is not an object."""
    found: list[Result] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for place, line in enumerate(file, start=1):
            result = parse_json(line, where=f"{path}, line {place}")
            if not isinstance(result, dict):
                raise InputError("this line is not an object.", where=f"{path}, line {place}")
            found.append(result)
    return found


def spread(results: Sequence[Result], most: int) -> list[Result]:
    """At most `most` of the results, evenly over all of them, in their order."""
    if len(results) <= most:
        return list(results)
    return [results[place * len(results) // most] for place in range(most)]


def item_row(task: str, result: Result) -> ItemRow:
    """The row of one result, whatever the kind of its task."""
    expected, said, figure = _told(result)
    prompt = str(result.get("prompt") or "")
    if prompt.startswith("sha256:"):
        prompt = f"a long prompt, of which its digest is kept: {prompt}"
    shown = " ".join(prompt[-4 * SNIPPET :].split())
    end = f"…{shown[-SNIPPET:]}" if len(shown) > SNIPPET else shown
    text = "" if end == prompt else prompt if len(prompt) <= LONGEST else f"…{prompt[-LONGEST:]}"
    return ItemRow(task, str(result.get("id")), outcome(result), expected, said, figure, end, text)


def outcome(result: Result) -> str:
    """Whether the answer is right, wrong, or shares the first place with others."""
    for key in ("accuracy", "greedy", "correct", "accuracy_letter"):
        score = result.get(key)
        if isinstance(score, bool | int | float):
            return "right" if score == 1 else "wrong" if score == 0 else "tied"
    return ""


def margins(results: Sequence[Result]) -> tuple[list[float], list[float]]:
    """The margins (nats) of right answers and of all others; of a last word its log-probability."""
    right: list[float] = []
    other: list[float] = []
    for result in results:
        value = number(result.get("margin", result.get("log_probability")))
        if value is not None:
            (right if outcome(result) == "right" else other).append(value)
    return right, other


def labels(results: Sequence[Result]) -> list[tuple[str, int, int]]:
    """For each class or place of an answer, how often it was predicted and how often it is right; most common first.

    Places are named by the classes of the task where each place is one class.
    """
    chosen = [(result.get("predicted"), result.get("gold", result.get("answer"))) for result in results]
    pairs = [(said, gold) for said, gold in chosen if isinstance(said, int) and isinstance(gold, int)]
    if not pairs:
        return []
    names: dict[int, set[str]] = {}
    for result, (_, gold) in zip(results, chosen, strict=True):
        if isinstance(gold, int):
            names.setdefault(gold, set()).add(str(result.get("label") or ""))
    said, gold = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    rows = []
    for place in sorted({*said, *gold}):
        own = names.get(place, {""})
        name = next(iter(own)) if len(own) == 1 else ""
        rows.append((name or f"choice {place + 1}", said[place], gold[place]))
    return rows


def _told(result: Result) -> tuple[str, str, str]:
    """The right answer, the model's, and the figure beside them."""
    if "generated" in result:
        answers = result.get("answers") or [result.get("answer", "")]
        figure = number(result.get("bits_per_byte"))
        return " / ".join(map(str, answers[:3])), str(result["generated"])[:LONGEST], fixed(figure, 2)
    if "greedy" in result:
        return str(result.get("target", "")), "", fixed(result.get("log_probability"), 2)
    if isinstance(gold := result.get("gold", result.get("answer")), int):
        said = result.get("predicted")
        label = str(result.get("label") or "")
        told = f"{gold + 1}{f' ({label})' if label else ''}"
        return told, str(said + 1) if isinstance(said, int) else "", fixed(result.get("margin"), 2)
    nats, size = number(result.get("nats")), number(result.get("bytes"))
    bits = nats / size / 0.6931471805599453 if nats is not None and size else None
    return "", "", fixed(bits, 3)
