"""In-context sensitivity: how far solved examples move a score, and by what about them (after MT-NLG).

On any multiple-choice task, four passes:

- counts: each document with its own shots, for several numbers of them;
- draws: one prompt for all documents, for several draws of the same number of shots and several orders of each;
- labels: the same number of shots, all of one class or balanced: how far a few biased examples "re-train" the model;
- wrong: half or all shots shown with a wrong answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from megalith.audit.answers import ask, classes_of, refuse_unsuited
from megalith.audit.in_context_facts import summary
from megalith.audit.instrument import Facts, Instrument, Item, Run
from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.shots import ShotPlan, ShotPool, choose_shots

BALANCED, ALL = "balanced", "all "
"""Names of plans: balanced classes, and all shots of one."""


@dataclass(frozen=True)
class Design:
    """How many of each are tried."""

    counts: tuple[int, ...] = (0, 1, 2, 4, 8)
    shots: int = 4
    """Shots in all passes but the first."""
    draws: int = 5
    orders: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Asked:
    """A task's documents that are scored, the pool of their shots, and the field of their clusters."""

    documents: Sequence[Document]
    pool: Sequence[Document]
    cluster: str = ""


def in_context(tasks: Mapping[str, Asked], design: Design, files: Sequence[Path] = ()) -> Instrument:
    """Return the instrument for tasks by name. Raises InputError for one without choices, or solved examples."""
    runs = []
    plans = {}
    for task, one in tasks.items():
        refuse_unsuited(task, one.documents)
        plans[task] = plans_of(one.documents, one.pool, design)
        judge = partial(ask, documents=one.documents, pool=one.pool, cluster=one.cluster)
        runs += [Run(f"in_context-{task}-{name}", partial(judge, plans=own)) for name, own in plans[task].items()]

    def tell(results: Mapping[str, list[Item]]) -> Facts:
        return {
            "tasks": [
                summary(
                    task,
                    {name: results[f"in_context-{task}-{name}"] for name in plans[task]},
                    classes_of([*one.documents, *one.pool]),
                    design.shots,
                )
                for task, one in tasks.items()
            ]
        }

    return Instrument(runs, tell, files)


def plans_of(documents: Sequence[Document], pool: Sequence[Document], design: Design) -> dict[str, dict[str, ShotPlan]]:
    """Return the plans of each pass by name; no pass over labels where choices are not the same classes throughout, nor
    over wrong answers where none can be shown."""
    if not all(document.solved for document in pool):
        raise InputError("the documents cannot be shown as solved examples.", where=pool[0].id if pool else None)
    pool = ShotPool(pool)
    base = ShotPlan(count=design.shots, seed=design.seed)
    passes = {
        "counts": {str(count): replace(base, count=count) for count in dict.fromkeys(design.counts)},
        "draws": {
            f"{draw}/{order}": replace(base, seed=design.seed + draw, fixed=True, order_seed=seed)
            for draw in range(design.draws)
            for order, seed in enumerate(_order_seeds(documents[0], pool, replace(base, fixed=True), design.orders))
        },
    }
    classes = classes_of([*documents, *pool])
    if classes and set(classes) <= {document.label for document in pool}:
        passes["labels"] = {BALANCED: replace(base, labels="balanced")} | {
            f"{ALL}{label}": replace(base, labels={label: 1.0}) for label in classes
        }
    if all(len(document.solved_as) > 1 for document in pool):
        passes["wrong"] = {f"{share:g}": replace(base, wrong=share) for share in (0.0, 0.5, 1.0)}
    return passes


def _order_seeds(document: Document, pool: Sequence[Document], plan: ShotPlan, orders: int) -> list[int]:
    """Return seeds of different orders: as many as wanted, or as there are."""
    found: dict[tuple[int, ...], int] = {}
    seed = 0
    while len(found) < min(orders, math.factorial(plan.count)):
        shots = choose_shots(document, pool, replace(plan, order_seed=seed))
        found.setdefault(tuple(shot.place for shot in shots), seed)
        seed += 1
    return list(found.values())
