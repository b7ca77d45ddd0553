"""The four tasks: each scores items under a model and returns per-item results as plain JSON.

- last_word (LAMBADA, strict: every token of the last word must be the model's first choice);
- continuation (multiple choice by log-likelihood, as HellaSwag);
- arithmetic (greedy text up to the end of the line must equal the answer);
- perplexity (whole documents).

Solved examples precede the question in the same form, with a blank line after each. The result of an item lists the
examples of its prompt and their answers.
"""

from collections.abc import Sequence
from typing import Any

from megalith.evaluation.items import Item, shots_of
from megalith.evaluation.texts import Text
from megalith.inference import Advance, LanguageModel, Request, generate, rolling, score

Result = dict[str, Any]

TIE_NATS = 1e-5  # the uncertainty of a log-likelihood in fp32
_DIGITS = 6  # decimals of stored nats


def perplexity(lm: LanguageModel, texts: Sequence[Text], batch_tokens: int, advance: Advance) -> list[Result]:
    """Measure the nats, tokens and bytes of each document, in windows that move by ¾ of the context."""
    rolled = rolling(lm, [text.text for text in texts], batch_tokens, advance=advance)
    return [
        {"id": text.id, "nats": round(found.nats, _DIGITS), "tokens": found.tokens, "bytes": found.bytes}
        for text, found in zip(texts, rolled, strict=True)
    ]


def last_word(
    lm: LanguageModel, items: Sequence[Item], shown: Sequence[Sequence[Item]], batch_tokens: int, advance: Advance
) -> list[Result]:
    """Score whether each target is the model's first choice, and its log-probability."""
    requests = [Request(prompt(item, shots), (item.target,)) for item, shots in zip(items, shown, strict=True)]
    return [
        {
            **_told(item, shots),
            "log_probability": round(found.log_probability, _DIGITS),
            "greedy": found.greedy,
            "tokens": found.tokens,
            "bytes": found.bytes,
            "straddled": found.straddled,
            "truncated": found.truncated,
        }
        for item, shots, (found,) in zip(items, shown, score(lm, requests, batch_tokens, advance), strict=True)
    ]


def continuation(
    lm: LanguageModel, items: Sequence[Item], shown: Sequence[Sequence[Item]], batch_tokens: int, advance: Advance
) -> list[Result]:
    """Compare each item's choices by total log-likelihood and by log-likelihood per byte."""
    requests = [Request(prompt(item, shots), item.choices) for item, shots in zip(items, shown, strict=True)]
    results = []
    for item, shots, found in zip(items, shown, score(lm, requests, batch_tokens, advance), strict=True):
        totals = [choice.log_probability for choice in found]
        per_byte = [choice.log_probability / choice.bytes for choice in found]
        results.append(
            {
                **_told(item, shots),
                "answer": item.answer,
                "log_probabilities": [round(total, _DIGITS) for total in totals],
                "bytes": [choice.bytes for choice in found],
                "accuracy": credit(totals, item.answer),
                "accuracy_per_byte": credit(per_byte, item.answer),
                "predicted": totals.index(max(totals)),
                "straddled": any(choice.straddled for choice in found),
                "truncated": any(choice.truncated for choice in found),
            }
        )
    return results


def arithmetic(
    lm: LanguageModel, items: Sequence[Item], shown: Sequence[Sequence[Item]], batch_tokens: int, advance: Advance
) -> list[Result]:
    """Score whether the greedy text up to the end of the line equals the answer."""
    prompts = [prompt(item, shots) for item, shots in zip(items, shown, strict=True)]
    longest = 1 + max(len(item.target) for item in items)  # a token is a byte at least, and one ends the line
    texts = generate(lm, prompts, tokens=longest, temperature=0, stop="\n", batch_tokens=batch_tokens)
    advance(len(items), len(items))
    lengths = [1 + len(ids) for ids in lm.tokenizer.encode_batch(prompts)]
    return [
        {
            **_told(item, shots),
            "answer": item.target.strip(),
            "generated": text,
            "correct": text.strip() == item.target.strip(),
            "straddled": False,
            "truncated": length + longest - 1 > lm.config.sequence_length,
        }
        for item, shots, text, length in zip(items, shown, texts, lengths, strict=True)
    ]


def show(items: Sequence[Item], pool: Sequence[Item], shots: int, seed: int) -> list[list[Item]] | None:
    """Draw the solved examples of each item's prompt; None if an item has too few candidates."""
    shown = [shots_of(item, pool, shots, seed) for item in items]
    return [examples for examples in shown if examples is not None] if None not in shown else None


def prompt(item: Item, shots: Sequence[Item]) -> str:
    """Join the solved examples and the question."""
    return "".join(f"{shot.context}{shot.target}\n\n" for shot in shots) + item.context


def credit(scores: Sequence[float], answer: int) -> float:
    """Return 1 if the answer scores best, 1/m if it shares the first place with m − 1 others, else 0.

    A model to which all choices are equally likely thus scores at chance, whatever their order.
    """
    best = max(scores)
    first = [place for place, value in enumerate(scores) if value >= best - TIE_NATS]
    return 1 / len(first) if answer in first else 0.0


def _told(item: Item, shots: Sequence[Item]) -> Result:
    return {"id": item.id, "shots": [shot.id for shot in shots], "labels": [shot.target for shot in shots]}
