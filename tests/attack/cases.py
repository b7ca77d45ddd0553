"""Cases, what is found of each, and the table of all of them."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.attack.command import Ended

Verdict = Literal["refused", "right", "wrong", "traceback", "hang"]
VERDICTS: tuple[Verdict, ...] = ("refused", "right", "wrong", "traceback", "hang")
BAD: tuple[Verdict, ...] = ("wrong", "traceback", "hang")
LONGEST_MESSAGE = 4000
SHOWN_CHARACTERS = 400

Right = Callable[[Ended], str | None]
"""Whether what a run that ended well has left is right; else what is wrong with it."""


@dataclass(frozen=True)
class Found:
    """The outcome of one case."""

    part: str
    kind: str
    case: int
    verdict: Verdict
    detail: str
    argv: tuple[str, ...] = ()
    killed: bool = False

    def again(self, seed: int) -> str:
        """The command that runs this case alone."""
        return f"python -m tests.attack --only {self.part} --seed {seed} --case {self.case} --keep"


def judge(ended: Ended, right: Right | None = None) -> tuple[Verdict, str]:
    """The verdict on a run that was to end well or to be refused in words."""
    said = ended.said
    if ended.hung:
        return "hang", said[-SHOWN_CHARACTERS:]
    if "Traceback (most recent call last)" in said or ended.code not in (0, 2):
        return "traceback", f"exit code {ended.code}: {_last_lines(said)}"
    if ended.survivors:
        return "wrong", f"left running: {ended.survivors[0][:SHOWN_CHARACTERS]}"
    if ended.code == 2:
        message = _message(ended.err)
        if message is None:
            return "wrong", f"exit code 2 without a sentence: {_last_lines(said)}"
        if len(message) > LONGEST_MESSAGE:
            return "wrong", f"a message of {len(message)} characters: {message[:SHOWN_CHARACTERS]}"
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]", message):
            return "wrong", f"control characters in a message: {message[:SHOWN_CHARACTERS]!r}"
        return "refused", message
    complaint = right(ended) if right is not None else None
    return ("right", "") if complaint is None else ("wrong", complaint)


def _message(err: str) -> str | None:
    """The sentence with which a run was refused: Megalith's own, or the command line's."""
    found = re.search(r"^(megalith: \S.*|Error: \S.*)", err, re.MULTILINE | re.DOTALL)
    return found.group().strip() if found else None


def _last_lines(said: str) -> str:
    return " / ".join(said.strip().splitlines()[-4:])[-2 * SHOWN_CHARACTERS :]


def leftovers(*directories: Path) -> str | None:
    """Names of half-written files and set-aside directories that nothing should leave behind."""
    left = [
        str(path)
        for directory in directories
        for path in directory.rglob("*")
        if path.name.endswith((".tmp", ".old", ".partial")) or path.name.startswith("megalith-")
    ]
    return f"left behind: {', '.join(sorted(left)[:3])}" if left else None


def table(found: Sequence[Found]) -> str:
    """Kind, attempts and verdicts, a line for each kind and one for all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        counts[f"{one.part}: {one.kind}"][one.verdict] += 1
    wide = max(len(kind) for kind in (*counts, "all"))
    head = f"{'kind':<{wide}}  attempts  " + "  ".join(f"{verdict:>9}" for verdict in VERDICTS)
    lines = [head, "-" * len(head)]
    whole: Counter[str] = Counter()
    for kind in sorted(counts):
        lines.append(_line(kind, wide, counts[kind]))
        whole.update(counts[kind])
    return "\n".join([*lines, "-" * len(head), _line("all", wide, whole)])


def _line(kind: str, wide: int, counts: Counter[str]) -> str:
    return f"{kind:<{wide}}  {counts.total():>8}  " + "  ".join(f"{counts[verdict]:>9}" for verdict in VERDICTS)


def failures(found: Iterable[Found]) -> list[Found]:
    """Those that must not be."""
    return [one for one in found if one.verdict in BAD]


def write_result(path: Path, found: Sequence[Found], seed: int, about: dict[str, object]) -> None:
    """Write the figures of each part that was run beside those of the other parts that stand in the file."""
    whole = json.loads(path.read_text()) if path.is_file() else {}
    for part in dict.fromkeys(one.part for one in found):
        own = [one for one in found if one.part == part]
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for one in own:
            kinds[one.kind][one.verdict] += 1
        whole[part] = {
            **about,
            "seed": seed,
            "attempts": len(own),
            "killed": sum(one.killed for one in own),
            "kinds": {kind: {name: kinds[kind][name] for name in VERDICTS} for kind in sorted(kinds)},
            "failures": [{**asdict(one), "again": one.again(seed)} for one in failures(own)],
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
