"""Shots: the solved examples before a question, as a controlled variable.

Shots are a pure function of (seed, document id, plan) and the pool: a document has the same prompt at any world size,
order, batch size and subset of the documents that are scored. They are never the document itself nor of its group,
which might give the answer away. With labels drawn, the shots of a smaller count are the first of a larger one.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal, TypeVar, overload

from megalith.errors import InputError
from megalith.evaluation.document import Choice, Document

Member = TypeVar("Member")


class TooFewShotsError(InputError):
    """The pool has fewer examples than are wanted."""


@dataclass(frozen=True)
class ShotPlan:
    """How many shots, which ones, in which order and with which labels."""

    count: int = 0
    seed: int = 0
    fixed: bool = False
    """Whether all documents have the same shots, but for those whose own group is among them; else each has its own."""
    order: Literal["drawn", "reversed", "rotated", "by_label"] = "drawn"
    """Rotated: the last shot comes first. By label: shots of one class stand together, classes by name."""
    order_seed: int | None = None
    """Permutes the same shots, before `order` is applied."""
    labels: Literal["drawn", "balanced"] | Mapping[str, float] = "drawn"
    """The mix of classes (`Document.label`): as drawn, equally many of each class in the pool, or the share of each."""
    wrong: float = 0.0
    """The share of shots that show another choice than the right one."""
    source: tuple[str, Literal["same", "other"]] | None = None
    """A field of the documents; shots have the same value there as the document, or another one."""
    first: bool = False
    """Whether shots are the first candidates in the pool's order (MMLU's protocol), not drawn."""


@dataclass(frozen=True)
class Shot:
    """One solved example."""

    place: int
    """Position in the pool."""
    text: str
    label: str
    """The class of the answer that is shown."""
    wrong: bool = False


class ShotPool(Sequence[Document]):
    """Documents indexed for drawing: choosing the shots of one document does not go through the pool again."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self.ids = [one.id for one in documents]
        self.groups = [one.group or one.id for one in documents]
        self._places: dict[tuple[str, bool, str, str | None], list[int]] = {}
        self._shots: dict[int, Shot] = {}
        self._labels: list[str] | None = None
        self._classes: dict[str, str] | None = None

    @overload
    def __getitem__(self, place: int) -> Document: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Document]: ...
    def __getitem__(self, place: int | slice) -> Document | Sequence[Document]:
        return self._documents[place]

    def __len__(self) -> int:
        return len(self._documents)

    def places(self, document: Document, plan: ShotPlan, label: str | None = None) -> list[int]:
        """The places of the documents that fit the plan's source and have this label, in the pool's order."""
        field, relation = plan.source or ("", "same")
        value = _field(document, field) if field else ""
        key = (field, relation == "same", value, label)
        if key not in self._places:
            self._places[key] = [
                place
                for place, one in enumerate(self._documents)
                if (not field or (_field(one, field) == value) == (relation == "same"))
                and (label is None or one.label == label)
            ]
        return self._places[key]

    def labels(self, document: Document, plan: ShotPlan) -> list[str]:
        """The classes among the documents that fit the plan's source, by name."""
        if self._labels is None:
            self._labels = sorted({one.label for one in self._documents})
        return [label for label in self._labels if self.places(document, plan, label)]

    def shot(self, place: int) -> Shot:
        """The document at `place` with its right answer."""
        if place not in self._shots:
            one = self._documents[place]
            self._shots[place] = Shot(place, one.solved, one.label)
        return self._shots[place]

    def wrong_shot(self, place: int, number: int) -> Shot:
        """The document at `place` with one of its wrong answers, which `number` picks. Raises InputError without."""
        one = self._documents[place]
        if len(one.solved_as) < 2:
            raise InputError(
                "documents of this task have no wrong answer to show as a solved example.",
                where=one.id,
                mend="Set wrong to 0.",
            )
        shown = [at for at in range(len(one.solved_as)) if at != one.gold][number % (len(one.solved_as) - 1)]
        label = self._class_of().get(one.choices[shown].continuation, "") if one.label else ""
        return Shot(place, one.solved_as[shown], label, wrong=True)

    def _class_of(self) -> dict[str, str]:
        """The class of each continuation that is some document's right answer."""
        if self._classes is None:
            self._classes = {one.choices[one.gold].continuation: one.label for one in self._documents if one.choices}
        return self._classes


def choose_shots(document: Document, pool: Sequence[Document], plan: ShotPlan) -> tuple[Shot, ...]:
    """Choose the shots of a document's prompt. Pass a `ShotPool` where there are many documents.

    Raises InputError where the pool has too few, where the plan names a field or class that is not there, and for wrong
    labels in a task without choices.
    """
    if plan.count <= 0:
        return ()
    indexed = pool if isinstance(pool, ShotPool) else ShotPool(pool)
    name = "" if plan.fixed else document.id
    if plan.labels == "drawn":
        places = _draw(document, indexed, indexed.places(document, plan), plan.count, plan, name)
    else:
        places = []
        for label, count in _class_counts(document, indexed, plan, name).items():
            candidates = indexed.places(document, plan, label)
            places += _draw(document, indexed, candidates, count, plan, f"{name}/{label}", label)
        places = _permuted(places, plan.seed, f"{name}/mix")
    shots = _labelled(places, indexed, plan, name)
    return _ordered(shots, plan, name)


def with_shots(document: Document, shots: Sequence[Shot], separator: str = "\n\n") -> Document:
    """Return the document with its preamble and the shots before its prompt and the context of every choice."""
    front = document.preamble + "".join([shot.text + separator for shot in shots])
    if not front:
        return document
    prompt = front + document.prompt
    choices = tuple(
        Choice(prompt if one.context == document.prompt else front + one.context, one.continuation)
        for one in document.choices
    )
    return replace(document, preamble="", prompt=prompt, choices=choices)


def _draw(
    document: Document,
    pool: ShotPool,
    candidates: list[int],
    count: int,
    plan: ShotPlan,
    name: str,
    label: str | None = None,
) -> list[int]:
    """Draw `count` of the candidates without replacement (a Fisher–Yates shuffle that stops early)."""
    own, groups = document.group or document.id, pool.groups
    chosen: list[int] = []
    moved: dict[int, int] = {}
    numbers = _numbers(plan.seed, name)
    for left in range(len(candidates), 0, -1):
        if len(chosen) == count:
            break
        at = len(candidates) - left if plan.first else next(numbers) % left
        place = candidates[moved.get(at, at)]
        moved[at] = moved.get(left - 1, left - 1)
        if groups[place] != own and pool.ids[place] != document.id:
            chosen.append(place)
    if len(chosen) < count:
        raise TooFewShotsError(
            f"{count} solved examples{f' of class {label}' if label else ''} are wanted for {document.id}, and the "
            f"pool has {len(chosen)} that may be shown.",
            where="shots",
            mend="Set fewer shots.",
        )
    return chosen


def _class_counts(document: Document, pool: ShotPool, plan: ShotPlan, name: str) -> dict[str, int]:
    """How many shots of each class: the shares of the count, and the rest to the largest remainders.

    Equal remainders are ordered by hash, so that over many documents no class has more.
    """
    present = pool.labels(document, plan)
    if isinstance(plan.labels, str):
        shares = dict.fromkeys(present, 1 / len(present)) if present else {}
    else:
        shares = dict(plan.labels)
        unknown = sorted(set(shares) - set(present))
        if unknown or min(shares.values(), default=-1) < 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise InputError(
                f"the shares {shares} do not fit the classes of the solved examples ({', '.join(present) or 'none'}).",
                where="labels",
                mend="Set a share from 0 for each class; together they are 1.",
            )
    if not shares or present == [""]:
        raise InputError("the solved examples of this task have no classes.", where="labels", mend="Set it to drawn.")
    counts = {label: math.floor(share * plan.count + 1e-9) for label, share in shares.items()}
    rest = {label: round(share * plan.count - counts[label], 9) for label, share in shares.items()}
    turn = dict(zip(_permuted(list(shares), plan.seed, f"{name}/rest"), range(len(shares)), strict=True))
    for label in sorted(shares, key=lambda label: (-rest[label], turn[label]))[: plan.count - sum(counts.values())]:
        counts[label] += 1
    return counts


def _labelled(places: list[int], pool: ShotPool, plan: ShotPlan, name: str) -> list[Shot]:
    """The shots, `wrong` × count of them with a wrong answer; a fraction of one is drawn."""
    if not plan.wrong:
        return [pool.shot(place) for place in places]
    if not 0 <= plan.wrong <= 1:
        raise InputError(f"{plan.wrong} is not a share.", where="wrong", mend="Set it to a number from 0 to 1.")
    numbers = _numbers(plan.seed, f"{name}/wrong")
    exact = plan.wrong * len(places)
    count = math.floor(exact + 1e-9)
    count += next(numbers) / 2**64 < exact - count
    changed = set(_permuted(places, plan.seed, f"{name}/which")[:count])
    return [pool.wrong_shot(place, next(numbers)) if place in changed else pool.shot(place) for place in places]


def _ordered(shots: list[Shot], plan: ShotPlan, name: str) -> tuple[Shot, ...]:
    if plan.order_seed is not None:
        shots = [shots[at] for at in _permuted(list(range(len(shots))), plan.order_seed, f"{name}/order")]
    match plan.order:
        case "reversed":
            shots = shots[::-1]
        case "rotated":
            shots = [*shots[-1:], *shots[:-1]]
        case "by_label":
            shots = sorted(shots, key=lambda shot: shot.label)
        case "drawn":
            pass
    return tuple(shots)


def _permuted(members: list[Member], seed: int, name: str) -> list[Member]:
    left = list(members)
    numbers = _numbers(seed, name)
    return [left.pop(next(numbers) % len(left)) for _ in members]


def _numbers(seed: int, name: str) -> Iterator[int]:
    """Pseudo-random 64-bit numbers without end, the same on every machine."""
    block = 0
    while True:
        yield from struct.unpack(">8Q", blake2b(f"{seed}/{name}/{block}".encode(), digest_size=64).digest())
        block += 1


def _field(document: Document, name: str) -> str:
    try:
        return document.fields[name]
    except KeyError as error:
        raise InputError(
            f"documents of this task have no field {name} (they have {', '.join(document.fields) or 'none'}).",
            where="source",
            mend="Set it to one of their fields.",
        ) from error
