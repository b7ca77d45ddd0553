import random
from collections import Counter

import pytest

from megalith.curation.heuristics import reason_to_drop, signals
from megalith.recipe import HeuristicsConfig

RULES = HeuristicsConfig()
NEUTRAL = HeuristicsConfig(
    minimum_characters=0,
    minimum_words=0,
    mean_word_length=(0.0, 1e9),
    maximum_symbol_ratio=1e9,
    maximum_bullet_lines=1.0,
    maximum_ellipsis_lines=1.0,
    minimum_alphabetic_words=0.0,
    minimum_stop_words=0,
    maximum_duplicate_line_characters=1.0,
    maximum_top_ngram_characters=(1e9, 1e9, 1e9),
)
PROSE = """It was late in the year when the surveyors came back to the valley with their maps and instruments.
They had walked for eleven weeks along the river, and they would not say what they had found near its source.
Some people in the village believed that gold had been seen; others thought that a new road was being planned.
My grandmother, who had known one of these men as a child, asked him to sit down and have a cup of tea.
He told her about birds and about weather, but when she wanted to hear more about the journey he only smiled.
In spring a company of engineers arrived, and then everybody understood what the quiet visitors had measured."""


def test_prose_passes_every_rule() -> None:
    assert reason_to_drop(signals(PROSE), RULES) is None


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("minimum_characters", PROSE[:511]),
        ("minimum_words", " ".join(["the", "of", "and"] + ["internationalisation" * 2] * 20)),
        ("mean_word_length", " ".join(f"{word}{'x' * 9}" for word in PROSE.split())),
        ("maximum_symbol_ratio", PROSE.replace(" the ", " # ... # ").replace(" a ", " # ") + " #" * 15),
        ("maximum_bullet_lines", "\n".join(f"- {line}" for line in PROSE.splitlines())),
        ("maximum_ellipsis_lines", "\n".join(f"{line}..." for line in PROSE.splitlines())),
        ("minimum_alphabetic_words", PROSE + " 123" * 40),
        (
            "minimum_stop_words",
            "\n".join(" ".join(word for word in line.split() if len(word) > 4) for line in (PROSE * 2).splitlines()),
        ),
        ("maximum_duplicate_line_characters", f"{PROSE}\n{PROSE}"),
        ("maximum_top_ngram_characters", PROSE + " buy cheap watches now" * 15),
    ],
)
def test_each_rule_names_itself(reason: str, text: str) -> None:
    assert reason_to_drop(signals(text), RULES) == reason
    assert reason_to_drop(signals(text), NEUTRAL) is None


def test_the_first_rule_that_fails_is_the_reason() -> None:
    assert reason_to_drop(signals("- # …"), RULES) == "minimum_characters"


def test_empty_text_has_signals() -> None:
    assert signals("").words == 0
    assert reason_to_drop(signals(""), NEUTRAL) is None


def _top_ngram_share(words: list[str], size: int) -> float:
    counts = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    longest = max(sum(map(len, ngram)) for ngram, count in counts.items() if count == most)
    return most * longest / sum(map(len, words))


def test_top_ngrams_are_those_of_plain_counting() -> None:
    draws = random.Random(5)
    for length in (0, 1, 2, 3, 5, 30, 200):
        for variety in (2, 5, 40):
            words = ["é" * (1 + draws.randrange(variety) % 7) + str(draws.randrange(variety)) for _ in range(length)]
            shares = signals(" ".join(words)).top_ngram_characters
            assert shares == pytest.approx([_top_ngram_share(words, size) for size in (2, 3, 4)])


def test_duplicate_lines_count_from_the_second_time_on() -> None:
    assert signals("abcd\n  abcd\nxy\nabcd").duplicate_line_characters == pytest.approx(8 / 14)


def test_symbols_are_counted_each_by_itself() -> None:
    assert signals("# … a b").symbol_ratio == pytest.approx(1 / 4)
