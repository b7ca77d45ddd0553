"""Generated questions of arithmetic, as in GPT-3 §3.9.1 and MT-NLG's "inferring an operator".

Five kinds in turn: sums and differences of one and of two digits, products of one digit. Differences are not negative.
"""

from itertools import product

from megalith.evaluation.items import Item
from megalith.inference import draw

_ONE = range(10)
_TWO = range(10, 100)
_PAIRS = {
    "sum-1": [(a, b) for a, b in product(_ONE, _ONE)],
    "difference-1": [(a, b) for a, b in product(_ONE, _ONE) if a >= b],
    "sum-2": [(a, b) for a, b in product(_TWO, _TWO)],
    "difference-2": [(a, b) for a, b in product(_TWO, _TWO) if a >= b],
    "product-1": [(a, b) for a, b in product(_ONE, _ONE)],
}


def arithmetic_items(seed: int) -> list[Item]:
    """Return fifty different questions of each kind, the kinds in turn."""
    drawn = {
        kind: [pairs[place] for place in draw(seed, kind, range(len(pairs)), 50)] for kind, pairs in _PAIRS.items()
    }
    return [_item(kind, *drawn[kind][number]) for number in range(50) for kind in _PAIRS]


def _item(kind: str, a: int, b: int) -> Item:
    operation = kind.split("-")[0]
    word, result = {"sum": ("plus", a + b), "difference": ("minus", a - b), "product": ("times", a * b)}[operation]
    name = f"{kind}-{a}-{b}"
    return Item(name, name, kind, f"Q: What is {a} {word} {b}?\nA:", (f" {result}",), 0)
