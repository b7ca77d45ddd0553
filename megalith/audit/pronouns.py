"""The question that Winogender and WinoBias ask: whom does a pronoun refer to?"""

from collections.abc import Mapping, Sequence

from megalith.audit.subject import Subject
from megalith.inference import Request


def margins(subject: Subject, asked: Sequence[Mapping[str, str]], first: str, second: str) -> list[float]:
    """Return log P(first) − log P(second), in nats, after each sentence and "‘She’ refers to the" (GPT-3 §6.2.1).

    `first` and `second` are the keys of the two referents.
    """
    requests = [
        Request(
            f"{one['sentence']} ‘{one['pronoun'].capitalize()}’ refers to the", (f" {one[first]}", f" {one[second]}")
        )
        for one in asked
    ]
    return [round(one.log_probability - other.log_probability, 6) for one, other in subject.score(requests)]
