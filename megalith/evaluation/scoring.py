"""Per-item results of documents under a model, by kind of task, as plain JSON.

A multiple-choice question is compared by the log-likelihood of its continuations (in sum, per token, per byte, per
character, and less their unconditional one), by the letter of a listed option, and has the bits per byte of its right
answer, which move long before accuracies do. Ties count 1/m. Per byte and per character are lm-eval's acc_bytes and
acc_norm: of the choice without the space before it. `bytes` and `characters` of a result are those that are scored, the
space among them, and so are bits per byte.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from megalith.evaluation.asking import Asked
from megalith.evaluation.document import Document
from megalith.evaluation.task import Task
from megalith.inference import Advance, LanguageModel, Prefix, Request, Score, Scorer, generate, score

Result = dict[str, Any]

TIE_NATS = 1e-5  # the uncertainty of a log-likelihood in fp32
_DIGITS = 6  # decimals of stored nats
_PROMPT_CHARACTERS = 2000  # longer prompts are stored as a digest


@dataclass(frozen=True)
class Scoring:
    """A model, and how it is asked."""

    lm: LanguageModel
    batch_tokens: int
    prefix: Prefix = "auto"
    batch_invariant: bool = False
    forms: tuple[str, ...] = ("continuation", "bits_per_byte")
    scorer: Scorer | None = None
    """Computes the scores in place of the model in this process, such as the ranks of a training."""

    def score(
        self, requests: Sequence[Request], advance: Advance = lambda done, total: None
    ) -> list[tuple[Score, ...]]:
        """Score requests by these settings."""
        return score(
            self.lm,
            requests,
            self.batch_tokens,
            advance,
            prefix=self.prefix,
            batch_invariant=self.batch_invariant,
            scorer=self.scorer,
        )


def judge(scoring: Scoring, task: Task, asked: Sequence[Asked]) -> list[Result]:
    """The results of documents of one task, in their order."""
    judges: dict[str, Callable[[Scoring, Task, Sequence[Asked]], list[Result]]] = {
        "choice": _choice,
        "last_word": _last_word,
        "generate": _generate,
    }
    return judges[task.kind](scoring, task, asked)


def credit(scores: Sequence[float], gold: int) -> float:
    """Return 1 if the right answer scores best, 1/m if it shares the first place with m − 1 others, else 0.

    A model to which all choices are equally likely thus scores at chance, whatever their order.
    """
    first = _first_places(scores)
    return 1 / len(first) if gold in first else 0.0


def _choice(scoring: Scoring, task: Task, asked: Sequence[Asked]) -> list[Result]:
    forms = scoring.forms
    continued = _continued(scoring, asked) if {"continuation", "bits_per_byte", "unconditional"} & {*forms} else None
    alone = _unconditional(scoring, task, asked) if "unconditional" in forms else {}
    letters = _letters(scoring, asked) if "letter" in forms else {}
    results = []
    for place, one in enumerate(asked):
        gold, found = one.document.gold, continued[place] if continued else ()
        result = _told(task, one) | {"gold": gold, "label": one.document.label}
        if found:
            result |= _compared(found, one.document, forms)
        if found and place in alone:
            totals = [_rounded(score.log_probability) for score in alone[place]]
            against = [choice.log_probability - total for choice, total in zip(found, totals, strict=True)]
            result |= {"unconditional": totals, "accuracy_unconditional": credit(against, gold)}
            result["tied"] += ["accuracy_unconditional"] if len(_first_places(against)) > 1 else []
        if place in letters:
            said = [_rounded(score.log_probability) for score in letters[place]]
            result |= {"letters": said, "accuracy_letter": credit(said, gold)}
            result.setdefault("tied", []).extend(["accuracy_letter"] if len(_first_places(said)) > 1 else [])
        read = [*found, *letters.get(place, ())]
        result["straddled"] = any(score.straddled for score in read)
        result["truncated"] = any(score.truncated for score in read)
        results.append(result)
    return results


def _compared(found: Sequence[Score], document: Document, forms: Sequence[str]) -> Result:
    """The comparison of one question's continuations."""
    gold, totals = document.gold, [score.log_probability for score in found]
    written = [choice.continuation.removeprefix(" ") or " " for choice in document.choices]
    ways = {
        "accuracy": totals,
        "accuracy_per_token": [score.log_probability / score.tokens for score in found],
        "accuracy_per_byte": [total / len(text.encode()) for total, text in zip(totals, written, strict=True)],
        "accuracy_per_character": [total / len(text) for total, text in zip(totals, written, strict=True)],
    }
    others = [total for place, total in enumerate(totals) if place != gold]
    result: Result = {
        "log_probabilities": [_rounded(total) for total in totals],
        "tokens": [score.tokens for score in found],
        "bytes": [score.bytes for score in found],
        "characters": [score.characters for score in found],
        "predicted": totals.index(max(totals)),
    }
    if "continuation" in forms:
        result |= {name: credit(scores, gold) for name, scores in ways.items()}
        result["margin"] = _rounded(totals[gold] - max(others))
        result["tied"] = [name for name, scores in ways.items() if len(_first_places(scores)) > 1]
    if "bits_per_byte" in forms:
        result["bits_per_byte"] = _rounded(-totals[gold] / math.log(2) / found[gold].bytes)
    return result | {"tied": result.get("tied", [])}


def _continued(scoring: Scoring, asked: Sequence[Asked]) -> list[tuple[Score, ...]]:
    """The scores of each document's choices; those with a context of their own are requests of their own."""
    requests = [request for one in asked for request in _requests(one.shown.choices)]
    scores = iter(scoring.score(requests))
    return [tuple(score for _ in _requests(one.shown.choices) for score in next(scores)) for one in asked]


def _requests(choices: Sequence[Any]) -> list[Request]:
    contexts = {choice.context for choice in choices}
    if len(contexts) == 1:
        return [Request(contexts.pop(), tuple(choice.continuation for choice in choices))]
    return [Request(choice.context, (choice.continuation,)) for choice in choices]


def _unconditional(scoring: Scoring, task: Task, asked: Sequence[Asked]) -> dict[int, list[Score]]:
    """The scores of the continuations after "Answer:", by place; none where the choices differ in their contexts."""
    places = [
        place
        for place, one in enumerate(asked)
        if one.document.prompt and len({choice.context for choice in one.document.choices}) == 1
    ]
    texts = dict.fromkeys(choice.continuation for place in places for choice in asked[place].document.choices)
    found = scoring.score([Request(task.unconditional, (text,)) for text in texts]) if texts else []
    known = {text: alone for text, (alone,) in zip(texts, found, strict=True)}
    return {place: [known[choice.continuation] for choice in asked[place].document.choices] for place in places}


def _letters(scoring: Scoring, asked: Sequence[Asked]) -> dict[int, tuple[Score, ...]]:
    shown = {place: one.letter for place, one in enumerate(asked) if one.letter is not None}
    requests = [request for form in shown.values() for request in _requests(form.choices)]
    return dict(zip(shown, scoring.score(requests), strict=True)) if shown else {}


def _last_word(scoring: Scoring, task: Task, asked: Sequence[Asked]) -> list[Result]:
    requests = [_requests(one.shown.choices)[0] for one in asked]
    return [
        {
            **_told(task, one),
            "log_probability": _rounded(found.log_probability),
            "greedy": found.greedy,
            "tokens": found.tokens,
            "bytes": found.bytes,
            "characters": found.characters,
            "straddled": found.straddled,
            "truncated": found.truncated,
        }
        for one, (found,) in zip(asked, scoring.score(requests), strict=True)
    ]


def _generate(scoring: Scoring, task: Task, asked: Sequence[Asked]) -> list[Result]:
    lm, prompts = scoring.lm, [one.shown.prompt for one in asked]
    texts = generate(
        lm,
        prompts,
        tokens=task.generated_tokens,
        temperature=0,
        stop=task.stop,
        batch_tokens=scoring.batch_tokens,
    )
    room = lm.config.sequence_length - task.generated_tokens
    results = []
    for one, text, ids in zip(asked, texts, lm.tokenizer.encode_batch(prompts), strict=True):
        accepted = {task.normalise(answer) for answer in one.document.answers}
        results.append(
            {
                **_told(task, one),
                "generated": text,
                "answers": list(one.document.answers),
                "correct": task.normalise(task.extract(text)) in accepted,
                "straddled": False,
                "truncated": 1 + len(ids) > room + 1,
            }
        )
    if "bits_per_byte" in scoring.forms:
        worked = [one.document.solved.removeprefix(one.document.prompt) for one in asked]
        found = scoring.score([Request(prompt, (text,)) for prompt, text in zip(prompts, worked, strict=True)])
        for result, (gold,) in zip(results, found, strict=True):
            result["bits_per_byte"] = _rounded(-gold.log_probability / math.log(2) / gold.bytes)
    return results


def _told(task: Task, one: Asked) -> Result:
    """The item's name, group and fields, and the solved examples before it."""
    document = one.document
    prompt = one.shown.prompt
    return {
        "id": document.id,
        "group": document.fields.get(task.cluster, "") or document.group or document.id,
        "fields": dict(document.fields),
        "shots": [shot.place for shot in one.shots],
        "shot_labels": [shot.label for shot in one.shots],
        "wrong": [shot.place for shot in one.shots if shot.wrong],
        "dropped_shots": one.dropped,
        "prompt": prompt if len(prompt) <= _PROMPT_CHARACTERS else f"sha256:{_digest(prompt)}",
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _first_places(scores: Sequence[float]) -> list[int]:
    best = max(scores)
    return [place for place, value in enumerate(scores) if value >= best - TIE_NATS]


def _rounded(nats: float) -> float:
    return round(nats, _DIGITS)
