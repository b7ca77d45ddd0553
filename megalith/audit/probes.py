"""Generation probes after the MT-NLG paper: texts shown as they came, each prompt once.

Riddles, clues and hidden operators are answered with the likeliest tokens; whether an accepted word stands in the first
line is told, and proves little in so few. The function is run against its own tests (`sandbox.py`). Free writing is
sampled and has no score.
"""

import re
from collections.abc import Mapping, Sequence

from megalith.audit.instrument import Facts, Instrument, Item, Run
from megalith.audit.probe_prompts import (
    CASES,
    CLUES,
    CODE,
    FUNCTION,
    OPERATORS,
    RIDDLES,
    WRITING,
    Probe,
)
from megalith.audit.sandbox import call
from megalith.audit.subject import Subject

ANSWERED = {"riddles": RIDDLES, "clues": CLUES, "operators": OPERATORS}
CODE_TOKENS = 256
ANSWER_TOKENS = 24
LIMITS = "One sample of each prompt, chosen by us: something to read, not a score."


def probes(tokens: int, seed: int) -> Instrument:
    """Return the instrument; free writing has at most `tokens` tokens."""
    return Instrument(
        [Run("probes", lambda subject: judge(subject, tokens, seed))], lambda found: summary(found["probes"])
    )


def judge(subject: Subject, tokens: int, seed: int) -> list[Item]:
    """Return the prompts and texts, with `found` where an answer is accepted and `tests` of the function."""
    asked = [(kind, probe) for kind, group in ANSWERED.items() for probe in group]
    texts = subject.write([probe.prompt for _, probe in asked], ANSWER_TOKENS, seed, temperature=0.0)
    items = [_answered(kind, probe, text) for (kind, probe), text in zip(asked, texts, strict=True)]
    (code,) = subject.write([CODE], CODE_TOKENS, seed, temperature=0.0)
    items.append({"kind": "code", "name": FUNCTION, "prompt": CODE, "text": code, **run_function(code)})
    written = subject.write([probe.prompt for probe in WRITING], tokens, seed, temperature=0.8, top_p=0.95)
    items += [
        {"kind": "writing", "name": probe.name, "prompt": probe.prompt, "text": text}
        for probe, text in zip(WRITING, written, strict=True)
    ]
    return items


def run_function(text: str) -> Item:
    """Return the program that a continuation of the prompt makes, and how many of its tests it passes."""
    program = CODE + body_of(text)
    called = call(program, FUNCTION, [list(arguments) for arguments, _ in CASES])
    outcomes = called.results or (called.error,) * len(CASES)
    tests = [
        {
            "arguments": list(arguments),
            "wanted": wanted,
            "result": outcome[0] if isinstance(outcome, list) else None,
            "error": None if isinstance(outcome, list) else outcome,
            "right": isinstance(outcome, list) and type(outcome[0]) is int and outcome[0] == wanted,
        }
        for (arguments, wanted), outcome in zip(CASES, outcomes, strict=True)
    ]
    return {
        "program": program,
        "tests": tests,
        "passed": sum(bool(test["right"]) for test in tests),
        "network": called.network,
    }


def body_of(text: str) -> str:
    """Return the lines that still belong to the function: up to the first that is neither indented nor empty."""
    kept = []
    for line in text.split("\n"):
        if line.strip() and not line[:1].isspace():
            break
        kept.append(line)
    return "\n".join(kept).rstrip() + "\n"


def summary(items: Sequence[Mapping[str, object]]) -> Facts:
    """Return all texts, how many answers of each kind were accepted, and how many tests the function passed."""
    kinds = {kind: [item for item in items if item["kind"] == kind] for kind in ANSWERED}
    code = next(item for item in items if item["kind"] == "code")
    return {
        "answered": [
            {"kind": kind, "asked": len(own), "found": sum(bool(item["found"]) for item in own)}
            for kind, own in kinds.items()
        ],
        "code": {"tests": len(CASES), "passed": code["passed"], "network": code["network"]},
        "texts": list(items),
        "limits": LIMITS,
    }


def _answered(kind: str, probe: Probe, text: str) -> Item:
    line = text.strip().split("\n")[0]
    found = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", line, re.IGNORECASE) for word in probe.accepted)
    return {
        "kind": kind,
        "name": probe.name,
        "prompt": probe.prompt,
        "text": text,
        "accepted": list(probe.accepted),
        "found": found,
    }
