"""Generated questions of arithmetic: the five kinds of the quickstart, and GPT-3's ten (§3.9.1).

GPT-3's kinds: sums and differences of two to five digits, products of two digits, and three one-digit numbers with an
operation in brackets. There, numbers have up to that many digits, and differences may be negative.
"""

from collections.abc import Iterator
from itertools import product

from megalith.evaluation.answers import first_line
from megalith.evaluation.document import Document
from megalith.evaluation.formats import Record
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task
from megalith.inference.draws import draw, keyed_hash

_ONE = range(10)
_TWO = range(10, 100)
_PAIRS = {
    "sum-1": [(a, b) for a, b in product(_ONE, _ONE)],
    "difference-1": [(a, b) for a, b in product(_ONE, _ONE) if a >= b],
    "sum-2": [(a, b) for a, b in product(_TWO, _TWO)],
    "difference-2": [(a, b) for a, b in product(_TWO, _TWO) if a >= b],
    "product-1": [(a, b) for a, b in product(_ONE, _ONE)],
}
_WORDS = {"sum": "plus", "difference": "minus", "product": "times"}
_SIGNS = ("+", "-", "*")
_EACH = 50
GPT3_KINDS = (
    "sum-2", "difference-2", "sum-3", "difference-3", "sum-4", "difference-4", "sum-5", "difference-5", "product-2",
    "three-1",
)  # fmt: skip


def make(seed: int) -> Iterator[Record]:
    """Fifty different questions of each of the five kinds, the kinds in turn; differences are not negative."""
    drawn = {
        kind: [pairs[place] for place in draw(seed, kind, range(len(pairs)), _EACH)] for kind, pairs in _PAIRS.items()
    }
    for at in range(_EACH):
        for kind in _PAIRS:
            yield _two(kind, *drawn[kind][at])


def make_gpt3(seed: int) -> Iterator[Record]:
    """Fifty different questions of each of GPT-3's ten kinds, the kinds in turn."""
    drawn = {kind: _numbers(kind, seed) for kind in GPT3_KINDS}
    for at in range(_EACH):
        for kind in GPT3_KINDS:
            yield _three(kind, drawn[kind][at], seed) if kind == "three-1" else _two(kind, *drawn[kind][at])


def _numbers(kind: str, seed: int) -> list[tuple[int, ...]]:
    """Different tuples of numbers with up to the kind's number of digits."""
    count = 3 if kind.startswith("three") else 2
    below = 10 ** int(kind.rpartition("-")[2])
    found: dict[tuple[int, ...], None] = {}
    turn = 0
    while len(found) < _EACH:
        found[tuple(keyed_hash(seed, f"{kind}/{turn}/{at}") % below for at in range(count))] = None
        turn += 1
    return list(found)


def _two(kind: str, a: int, b: int) -> Record:
    word = kind.partition("-")[0]
    result = {"sum": a + b, "difference": a - b, "product": a * b}[word]
    return _record(kind, f"{kind}-{a}-{b}", f"{a} {_WORDS[word]} {b}", result)


def _three(kind: str, numbers: tuple[int, ...], seed: int) -> Record:
    first, second = (_SIGNS[keyed_hash(seed, f"sign/{numbers}/{at}") % 3] for at in range(2))
    a, b, c = numbers
    inner = {"+": b + c, "-": b - c, "*": b * c}[second]
    result = {"+": a + inner, "-": a - inner, "*": a * inner}[first]
    return _record(kind, f"{kind}-{a}{first}{b}{second}{c}", f"{a} {first} ({b} {second} {c})", result)


def _record(kind: str, name: str, asked: str, result: int) -> Record:
    return Record({"kind": kind, "id": name, "asked": asked, "result": str(result)}, name, 0)


def _document(record: Record) -> Document:
    asked = f"Q: What is {record.text('asked')}?\nA:"
    return generated(asked, (record.text("result"),), id=record.text("id"), fields={"kind": record.text("kind")})


ARITHMETIC, ARITHMETIC_GPT3 = (
    Task(
        name=name,
        kind="generate",
        about=about,
        paper="after Brown et al. 2020, arXiv 2005.14165, §3.9.1",
        licence="the project's own",
        prompts={"gpt3": _document},
        make=maker,
        shots_like="kind",
        by=("kind",),
        generated_tokens=tokens,
        extract=first_line,
    )
    for name, about, maker, tokens in (
        ("arithmetic", "sums, differences and products of one and two digits, made on the spot", make, 8),
        ("arithmetic_gpt3", "GPT-3's ten kinds of arithmetic, made on the spot", make_gpt3, 12),
    )
)
