"""Models with known behaviour, on which instruments are tried before they are believed."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from megalith.audit.occupations import OCCUPATIONS
from megalith.inference import Request, Score

LogProbability = Callable[[str, str], float]


def _silent(prompt: str, seed: int) -> str:
    return ""


@dataclass(frozen=True)
class Planted:
    """A model whose log-probabilities (nats) are a function of context and continuation, one word a token."""

    log_probability: LogProbability
    text: Callable[[str, int], str] = _silent
    """The continuation of a prompt, from a seed of its own."""

    def score(self, requests: Sequence[Request]) -> list[tuple[Score, ...]]:
        return [
            tuple(
                Score(
                    log_probability=self.log_probability(request.context, continuation),
                    greedy=False,
                    tokens=len(continuation.split()),
                    bytes=len(continuation.encode()),
                    characters=len(continuation),
                    straddled=False,
                    truncated=False,
                )
                for continuation in request.continuations
            )
            for request in requests
        ]

    def write(
        self, prompts: Sequence[str], tokens: int, seed: int, *, temperature: float = 1.0, top_p: float | None = None
    ) -> list[str]:
        return [self.text(prompt, seed + place) for place, prompt in enumerate(prompts)]


def unigram(probabilities: Mapping[str, float], other: float = 1e-6) -> LogProbability:
    """Words have these probabilities after any text, and all others `other` each."""

    def log_probability(context: str, continuation: str) -> float:
        return sum(math.log(probabilities.get(word.casefold(), other)) for word in re.findall(r"\w+", continuation))

    return log_probability


def label_prior(true: float) -> LogProbability:
    """Answers " True" with probability `true`, whatever is asked."""
    return lambda context, continuation: math.log(true if continuation == " True" else 1 - true)


def lexical_overlap(margin: float = 2.0) -> LogProbability:
    """Answers True, by `margin` nats, where all words of the hypothesis are in the premise; else False."""

    def overlaps(premise: list[str], hypothesis: list[str]) -> bool:
        return set(hypothesis) <= set(premise)

    return _of_pair(overlaps, margin)


def subsequence(margin: float = 2.0) -> LogProbability:
    """Answers True, by `margin` nats, where the words of the hypothesis stand side by side in the premise."""

    def stands(premise: list[str], hypothesis: list[str]) -> bool:
        return any(premise[at : at + len(hypothesis)] == hypothesis for at in range(len(premise)))

    return _of_pair(stands, margin)


def last_label(margin: float = 2.0) -> LogProbability:
    """Repeats the answer of the last solved example by `margin` nats; without one, finds both equally likely."""

    def log_probability(context: str, continuation: str) -> float:
        shown = re.findall(r"\nAnswer:( \w+)\n", context)
        return _two(margin * (0 if not shown else 1 if shown[-1] == " True" else -1), continuation)

    return log_probability


def label_counts(per_shot: float = 0.5) -> LogProbability:
    """Adds `per_shot` nats to the margin of True for each True shown, and takes as many off for each False."""

    def log_probability(context: str, continuation: str) -> float:
        shown = re.findall(r"\nAnswer:( \w+)\n", context)
        return _two(per_shot * sum(1 if label == " True" else -1 for label in shown), continuation)

    return log_probability


def _of_pair(holds: Callable[[list[str], list[str]], bool], margin: float) -> LogProbability:
    def log_probability(context: str, continuation: str) -> float:
        premise, question = context.split("\n\n")[-1].split("\nQuestion: ")
        hypothesis = question.removesuffix(" True or False?\nAnswer:")
        words = [re.findall(r"\w+", text.casefold()) for text in (premise, hypothesis)]
        return _two(margin if holds(words[0], words[1]) else -margin, continuation)

    return log_probability


def _two(margin: float, continuation: str) -> float:
    """Return the log-probability of " True" or " False" where log P(True) − log P(False) is `margin`."""
    return -math.log1p(math.exp(-margin if continuation == " True" else margin))


def unbiased(context: str, continuation: str) -> float:
    """Finds everything equally likely."""
    return -1.0


def by_gender(nats: float) -> LogProbability:
    """Makes the male words likelier by `nats` after an occupation, and finds all words alike after anybody else."""

    def log_probability(context: str, continuation: str) -> float:
        subject = re.sub(r"^The (?:(?:in)?competent )?|was a$", "", context).strip()
        return -3.0 + (nats if subject in OCCUPATIONS and continuation in (" male", " man") else 0.0)

    return log_probability


def stereotyped(margin: float) -> LogProbability:
    """Expects women to be nurses and men anything else, and old people to forget, by `margin` nats."""

    def log_probability(context: str, continuation: str) -> float:
        if "‘She’" in context:
            expected = " nurse" if "nurse" in context else " guest"
        elif "‘He’" in context:
            expected = next((name for name in (" pilot", " developer") if name in context), " guest")
        elif "‘They’" in context:
            return -1.0
        else:
            expected = " The old one" if "forgot" in context else " The young one"
        return -1.0 if continuation == expected else -1.0 - margin

    return log_probability
