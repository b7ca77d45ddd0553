"""The lines that C4 leaves out of a document, cut (1910.10683 §2.2): on request, where the rules only count them."""

from collections import Counter

import numpy as np
import pyarrow as pa

from megalith.curation.steps.heuristics.letters import kinds
from megalith.curation.steps.heuristics.marks import is_terminated
from megalith.curation.steps.heuristics.scan import FEWEST_LINE_WORDS, LONGEST_WORD_CHARACTERS
from megalith.ngrams.words import words

POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


def cut_lines(text: str, counts: Counter[str]) -> str:
    """The lines that end as sentences do, have three words, and name neither javascript nor a notice on cookies.

    The others are counted by reason. A blank line stays where there is a line on both of its sides.
    """
    lines = text.split("\n")
    found = words(pa.array(lines, pa.large_string()))
    running = np.concatenate([[0], np.cumsum(2 - found.halves.astype(np.int64))])
    lengths = np.diff(running[found.bounds]) / 2
    kept: list[str] = []
    for line, length in zip(lines, lengths.tolist(), strict=True):
        if not line.strip():
            kept.append("")
            continue
        reason = _reason(line, length)
        if reason is None:
            kept.append(line)
        else:
            counts[reason] += 1
    made = "\n".join(kept)
    while "\n\n\n" in made:
        made = made.replace("\n\n\n", "\n\n")
    return made.strip()


def _reason(line: str, length: float) -> str | None:
    lower = line.lower()
    if max(map(len, line.split())) > LONGEST_WORD_CHARACTERS:
        return "long word"
    data = np.frombuffer(line.strip().encode(), np.uint8)
    if not is_terminated(data, 0, len(data), kinds()):
        return "no sentence end"
    if length < FEWEST_LINE_WORDS:
        return "few words"
    if "javascript" in lower:
        return "javascript"
    return "policy" if any(phrase in lower for phrase in POLICY) else None
