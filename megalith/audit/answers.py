"""Multiple-choice documents under several shot plans: what is asked, and what each answer says."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megalith.audit.instrument import Item
from megalith.audit.subject import Subject
from megalith.errors import InputError
from megalith.evaluation.document import Document
from megalith.evaluation.scoring import credit
from megalith.evaluation.shots import ShotPlan, ShotPool, choose_shots, with_shots
from megalith.inference import Request, Score


def ask(
    subject: Subject,
    documents: Sequence[Document],
    pool: Sequence[Document],
    plans: Mapping[str, ShotPlan],
    cluster: str = "",
) -> list[Item]:
    """Score the choices of every document under every plan; an item each, plan after plan.

    `cluster` names the field whose values are the independent units; else these are the groups of documents.

    `margin` is the log-probability of the right choice less that of the best wrong one, in nats; `truncated` says that
    the prompt did not fit. Raises InputError where the pool has too few solved examples for a plan.
    """
    shots = ShotPool(pool)
    shown = [
        (name, document, choose_shots(document, shots, plan)) for name, plan in plans.items() for document in documents
    ]
    prompts = [with_shots(document, chosen) for _, document, chosen in shown]
    scores = iter(subject.score([request for prompt in prompts for request in _requests(prompt)]))
    items = []
    for (name, document, chosen), prompt in zip(shown, prompts, strict=True):
        found = [each for _ in _requests(prompt) for each in next(scores)]
        items.append(
            {
                "id": document.id,
                "prompt": document.prompt,
                "plan": name,
                "cluster": document.fields[cluster] if cluster else document.group or document.id,
                "fields": dict(document.fields),
                "label": document.label,
                "gold": document.gold,
                "shots": [shot.place for shot in chosen],
                "shot_labels": [shot.label for shot in chosen],
                "wrong": [shot.place for shot in chosen if shot.wrong],
                **_answer(found, document.gold),
            }
        )
    return items


def classes_of(documents: Sequence[Document]) -> tuple[str, ...]:
    """Return the class of each choice, in their order; empty where choices are not the same classes throughout."""
    labels: dict[str, str] = {}
    for document in documents:
        texts = tuple(choice.continuation for choice in document.choices)
        if not document.label or labels.setdefault(texts[document.gold], document.label) != document.label:
            return ()
        if texts != tuple(choice.continuation for choice in documents[0].choices):
            return ()
    texts = tuple(choice.continuation for choice in documents[0].choices)
    return tuple(labels[text] for text in texts) if set(texts) == set(labels) else ()


def toward(item: Mapping[str, Any], place: int) -> float:
    """Return the log odds of the choice at `place` against all others together, in nats."""
    nats = item["log_probabilities"]
    return float(nats[place] - np.logaddexp.reduce([value for at, value in enumerate(nats) if at != place]))


def refuse_unsuited(name: str, documents: Sequence[Document]) -> None:
    """Raise InputError where documents have no choices to compare."""
    if not all(len(document.choices) > 1 for document in documents):
        raise InputError(
            f"{name} has no choices to compare.", where="audit.in_context_tasks", mend="Use a multiple-choice task."
        )


def _requests(document: Document) -> list[Request]:
    """Return one request where all choices have the same context, else one a choice."""
    contexts = {choice.context for choice in document.choices}
    if len(contexts) == 1:
        return [Request(contexts.pop(), tuple(choice.continuation for choice in document.choices))]
    return [Request(choice.context, (choice.continuation,)) for choice in document.choices]


def _answer(found: Sequence[Score], gold: int) -> Item:
    nats = [round(each.log_probability, 6) for each in found]
    return {
        "log_probabilities": nats,
        "correct": credit(nats, gold),
        "margin": round(nats[gold] - max(value for place, value in enumerate(nats) if place != gold), 6),
        "truncated": any(each.truncated for each in found),
    }
