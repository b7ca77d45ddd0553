"""Items: the questions of a task, from JSON lines.

An item is {"context", "target"} (the model must predict the target word for word) or {"context", "choices", "answer"}
(the model must prefer the right one of several continuations; `answer` counts from 0). A continuation begins with its
own space. `id` and `document` are optional.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.inference import draw, keyed_hash
from megalith.input_files import parse_json


@dataclass(frozen=True)
class Item:
    """One question and its solution."""

    id: str
    source: str
    """The document behind the item. Solved examples in its prompt come from other sources."""
    kind: str
    """Solved examples are of the same kind as the item."""
    context: str
    choices: tuple[str, ...]
    """The continuations to choose from; only the target if the task has no choices."""
    answer: int

    @property
    def target(self) -> str:
        return self.choices[self.answer]


def read_items(path: Path) -> list[Item]:
    """Read the items of a JSON lines file; a missing file has none.

    Raises InputError at the first line that is not an item, and for a mixture of both kinds.
    """
    if not path.is_file():
        return []
    items: list[Item] = []
    for where, line in _lines(path):
        item = _item(line, where)
        if items and (len(item.choices) == 1) != (len(items[0].choices) == 1):
            raise InputError("items with choices and items with a target are mixed.", where=where)
        items.append(item)
    if len({item.id for item in items}) != len(items):
        raise InputError("two items have the same id.", where=str(path))
    return items


def select(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Draw at most `count` items by a hash of their ids; their order is kept."""
    drawn = sorted(items, key=lambda item: (keyed_hash(seed, item.id), item.id))[:count]
    chosen = {item.id for item in drawn}
    return [item for item in items if item.id in chosen]


def shots_of(item: Item, pool: Sequence[Item], count: int, seed: int) -> list[Item] | None:
    """Draw the solved examples of an item's prompt from the whole pool; None if there are too few.

    They are never the item itself nor of the same source, which might give the answer away.
    """
    candidates = [
        place
        for place, other in enumerate(pool)
        if other.kind == item.kind and other.source != item.source and other.id != item.id
    ]
    if len(candidates) < count:
        return None
    return [pool[place] for place in draw(seed, item.id, candidates, count)]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                where = f"{path}, line {number}"
                line = parse_json(text, where=where)
                if not isinstance(line, dict):
                    raise InputError("an item must be a JSON object.", where=where)
                yield where, {"id": str(number), **line}
    except UnicodeDecodeError as error:
        raise InputError("this is not UTF-8 text.", where=str(path)) from error


def _item(line: dict[str, Any], where: str) -> Item:
    chooses = "choices" in line
    context = line.get("context")
    choices = _continuations(line["choices"] if chooses else [line.get("target")])
    if not isinstance(context, str) or len(choices) < 1 + chooses:
        raise InputError(
            "an item needs a context and a target, or a context, two or more choices and an answer; none may be empty.",
            where=where,
        )
    answer = line.get("answer") if chooses else 0
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise InputError(
            f"the answer {answer!r} is not the place of one of the {len(choices)} choices.",
            where=where,
            mend="Use a place from 0.",
        )
    name = str(line["id"])
    return Item(name, str(line.get("document", name)), "", context, choices, answer)


def _continuations(given: Any) -> tuple[str, ...]:
    """Return the texts of a list, or none if any element is not a text or is empty."""
    texts = [text for text in given if isinstance(text, str) and text] if isinstance(given, list) else []
    return tuple(texts) if texts and len(texts) == len(given) else ()
