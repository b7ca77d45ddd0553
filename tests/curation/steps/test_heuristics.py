import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from megalith.curation.steps.heuristics import reasons, signal_table
from megalith.curation.steps.heuristics.rules import _RULES
from megalith.ngrams.words import unspaced as table_of_letters
from megalith.recipe.heuristics import HeuristicsConfig
from tests.corpus import docstrings

STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
TERMINAL = ".!?。؟"
CLOSING = "\"')]’”»“」"
PROSE = """It was late in the year when the surveyors came back to the valley with their maps and instruments.
They had walked for eleven weeks along the river, and they would not say what they had found near its source.
Some people in the village believed that gold had been seen; others thought that a new road was being planned.
My grandmother, who had known one of these men as a child, asked him to sit down and have a cup of tea.
He told her about birds and about weather, but when she wanted to hear more about the journey he only smiled.
In spring a company of engineers arrived, and then everybody understood what the quiet visitors had measured."""


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _is_plain(word: str) -> bool:
    return any(unicodedata.category(letter)[0] not in "PSC" for letter in word)


def _words(text: str) -> list[str]:
    """Runs between white space, those of scripts without spaces in parts of one to four characters."""
    found = []
    for run in text.split():
        word, last, letters = "", None, 0
        for letter in run:
            is_mark = unicodedata.category(letter)[0] == "M"
            unspaced = bool(table_of_letters()[ord(letter)])
            if word and not is_mark and (unspaced or last):
                if unspaced and last:
                    parts = letters == 4 or (ord(last) << 32 | ord(letter)) * 0xFF51AFD7ED558CCD >> 63 & 1
                else:
                    parts = _is_plain(letter) and _is_plain(word)
                if parts:
                    found.append(word)
                    word, letters = "", 0
            word += letter
            if not is_mark:
                last = letter if unspaced else None
                letters += unspaced
        found.append(word)
    return found


def _repeated(elements: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    lengths = []
    for element in elements:
        if element in seen:
            lengths.append(len(element))
        seen.add(element)
    return len(lengths), sum(lengths)


def _top(words: list[str], size: int) -> int:
    tallies = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
    most = max(tallies.values(), default=0)
    return next((most * len(" ".join(gram)) for gram, tally in tallies.items() if tally == most), 0)


def _duplicated(words: list[str], size: int) -> int:
    seen: set[tuple[str, ...]] = set()
    at = characters = 0
    while at + size <= len(words):
        gram = tuple(words[at : at + size])
        if gram in seen:
            characters += len("".join(gram))
            at += size
        else:
            seen.add(gram)
            at += 1
    return characters


def _sentences(line: str) -> int:
    count, begun = 0, False
    for word in _words(line):
        begun |= _is_plain(word)
        bare = word
        while bare and bare[-1] not in TERMINAL and bare[-1] in CLOSING:
            bare = bare[:-1]
        if begun and bare and bare[-1] in TERMINAL:
            count, begun = count + 1, False
    return count + begun


def _ends(line: str) -> str:
    while found := re.search(r"(\[\d*\]|\[edit\]|\[citation needed\])$", line, re.IGNORECASE):
        line = line[: found.start()]
    return line


def _by_the_rules(text: str) -> dict[str, Any]:
    """The signals as the papers' rules say them, one after another."""
    text = text.strip()
    words = _words(text)
    plain = [word for word in words if _is_plain(word)]
    raw_lines = [line for line in text.split("\n") if line.strip()]
    lines = [line.strip() for line in raw_lines]
    paragraphs = re.split(r"\n{2,}", text) if text else []
    line_copies, line_characters = _repeated(raw_lines)
    paragraph_copies, paragraph_characters = _repeated(paragraphs)
    terminated = [
        _ends(line).endswith((".", "!", "?", '"', "。", "؟", "“", "”", "»", "」")) and not _ends(line).endswith("...")
        for line in lines
    ]
    java = ["javascript" in line.lower() for line in lines]
    policy = [any(phrase in line.lower() for phrase in POLICY) for line in lines]
    few = [len(_words(line)) < 3 for line in lines]
    kept = [
        not (java[at] or policy[at] or few[at] or any(len(word) > 1000 for word in _words(line)))
        for at, line in enumerate(lines)
    ]
    return {
        "characters": len(text),
        "words": len(plain),
        "stop_words": len(STOP_WORDS & {word.lower() for word in words}),
        "lines": len(lines),
        "paragraphs": len(paragraphs),
        "sentences": sum(_sentences(line) for line, keep in zip(lines, kept, strict=True) if keep),
        "terminated_sentences": sum(
            _sentences(line) for line, keep, ends in zip(lines, kept, terminated, strict=True) if keep and ends
        ),
        "lorem_ipsum": text.lower().count("lorem ipsum"),
        "curly_brackets": text.count("{"),
        "mean_word_length": _share(sum(map(len, plain)), len(plain)),
        "symbol_ratio": _share(max(text.count("#"), text.count("...") + text.count("…")), len(words)),
        "alphabetic_words": _share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        "bullet_lines": _share(sum(line.startswith(("•", "-")) for line in lines), len(lines)),
        "ellipsis_lines": _share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "duplicate_lines": _share(line_copies, len(lines)),
        "duplicate_paragraphs": _share(paragraph_copies, len(paragraphs)),
        "duplicate_line_characters": _share(line_characters, len(text)),
        "duplicate_paragraph_characters": _share(paragraph_characters, len(text)),
        **{f"top_{size}gram_characters": _share(_top(words, size), len(text)) for size in (2, 3, 4)},
        **{f"duplicate_{size}gram_characters": _share(_duplicated(words, size), len(text)) for size in range(5, 11)},
        "javascript_lines": _share(sum(java), len(lines)),
        "policy_lines": _share(sum(policy), len(lines)),
        "lines_of_few_words": _share(sum(few), len(lines)),
        "unterminated_lines": _share(terminated.count(False), len(lines)),
        "punctuated_lines": _share(sum(line[-1] in TERMINAL for line in raw_lines), len(lines)),
        "short_lines": _share(sum(len(line) <= 30 for line in raw_lines), len(lines)),
        "duplicate_text_line_characters": _share(line_characters, len(text.replace("\n", ""))),
        "newlines_per_word": _share(text.count("\n"), len(words)),
    }


def _agrees(texts: Sequence[str]) -> None:
    made = signal_table(pa.array(texts, pa.large_string())).to_pylist()
    for text, found in zip(texts, made, strict=True):
        expected = _by_the_rules(text)
        assert set(found) == set(expected)
        wrong = {name: (found[name], expected[name]) for name in found if found[name] != expected[name]}
        assert not wrong, (text[:300], wrong)


_PIECES = (
    *("the", "The", "WITH", "be", "a", "word", "Word", "x1", "42", "é", "語", "𝒜", "—", "#", "...", "....", "…", "•"),
    *(
        "- ",
        "{",
        "}",
        ". ",
        "! ",
        '?" ',
        ".) ",
        "?’ ",
        "。",
        "」",
        "“",
        "語彙",
        "ที่นี่",
        "を\u3099",
        "桥修好了",
        "[12]",
        "[edit]",
        "[citation needed]",
        "[]",
        "[1",
        "]",
    ),
    *(" ", " ", " ", " ", "\n", "\n", "\n\n", "\n \n", "\n\n\n", "\t", "\r\n", "\u2003", "\x1c", "\x85", "\x00"),
    *("javascript", "JavaScript", "javascrip", "lorem ipsum", "Lorem Ipsum", "lorem  ipsum", "Terms of Use"),
    *("privacy policy", "Cookie policy", "uses cookies", "use of Cookies", "use cookies", "use cookie", "v", "k", "f"),
    *("one two three four five six. ", "one two three four five six seven eight nine ten eleven. "),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(_PIECES), max_size=60).map("".join), max_size=4))
@example(["", " ", "a", "\n", "a b\n\na b\n\na b", f"{'w' * 1001} b c.", "x.\n\nx. \n\nx."])
def test_signals_of_odd_texts_are_those_of_the_rules(texts: list[str]) -> None:
    _agrees(texts)


def test_signals_of_real_texts_are_those_of_the_rules() -> None:
    _agrees(docstrings(per_file=20)[::20])


def test_a_slice_of_an_array_has_signals_of_its_own() -> None:
    texts = pa.array([PROSE, "two words", f"{PROSE}\n{PROSE}"])
    assert signal_table(texts.slice(1, 2)).equals(signal_table(texts).slice(1, 2).combine_chunks())


def _reason(text: str, rules: HeuristicsConfig) -> str | None:
    return reasons(signal_table(pa.array([text])), rules).to_pylist()[0]


def test_prose_passes_every_preset() -> None:
    for preset in ("mt-nlg", "gopher", "c4", "fineweb", "none"):
        assert _reason(PROSE, HeuristicsConfig(preset=preset)) is None


@pytest.mark.parametrize(
    ("preset", "reason", "text"),
    [
        ("mt-nlg", "minimum_characters", PROSE[:511]),
        ("mt-nlg", "minimum_words", " ".join(["the", "of", "and"] + ["internationalisation" * 2] * 20)),
        ("mt-nlg", "minimum_words", "the of and internationalisation " * 12 + "— " * 300),
        ("gopher", "maximum_words", "the of and word " * 25_001),
        ("mt-nlg", "mean_word_length", " ".join(f"{word}{'x' * 9}" for word in PROSE.split())),
        ("mt-nlg", "maximum_symbol_ratio", PROSE.replace(" the ", " #word ") + " #" * 15),
        ("mt-nlg", "maximum_symbol_ratio", PROSE + " and so... on" * 40),
        ("mt-nlg", "maximum_bullet_lines", "\n".join(f"- {line}" for line in PROSE.splitlines())),
        ("mt-nlg", "maximum_ellipsis_lines", "\n".join(f"{line}..." for line in PROSE.splitlines())),
        ("mt-nlg", "minimum_alphabetic_words", PROSE + " 123" * 40),
        ("mt-nlg", "minimum_stop_words", " ".join(word for word in (PROSE * 2).split() if len(word) > 4)),
        ("mt-nlg", "maximum_duplicate_line_characters", f"{PROSE}\n{PROSE}"),
        ("mt-nlg", "maximum_top_ngram_characters", PROSE + " buy cheap watches now" * 15),
        ("gopher", "maximum_duplicate_lines", PROSE + "\nword" * 5),
        ("gopher", "maximum_duplicate_paragraphs", PROSE + "\n\nword" * 3),
        ("gopher", "maximum_duplicate_ngram_characters", f"{PROSE} {' '.join(PROSE.split())}"),
        ("c4", "minimum_terminated_sentences", PROSE.replace(".\n", "\n")),
        ("c4", "minimum_terminated_sentences", "Yes, indeed.\n" * 9),
        ("c4", "allow_lorem_ipsum", f"{PROSE} Lorem ipsum."),
        ("c4", "allow_curly_brackets", f"{PROSE} {{}}."),
        ("fineweb", "minimum_sentences", PROSE.replace(".\n", " ")),
        ("fineweb", "minimum_sentences", PROSE.replace(".\n", ", by cookie policy.\n")),
        ("fineweb", "minimum_sentences", PROSE.replace(".\n", ", by JavaScript.\n")),
        ("fineweb", "minimum_punctuated_lines", re.sub(r"([a-z]{3})\. ?", r"\1. So", PROSE.replace(".\n", ". So\n"))),
        ("fineweb", "maximum_short_lines", PROSE + "".join(f"\nA line {chr(at)}." for at in range(97, 115))),
        ("fineweb", "maximum_duplicate_text_line_characters", f"{PROSE}\nRead more now.\nRead more now."),
        ("fineweb", "maximum_newlines_per_word", PROSE.replace("\n", "\n" * 9)),
    ],
)
def test_each_rule_names_itself(preset: str, reason: str, text: str) -> None:
    assert _reason(text, HeuristicsConfig(preset=preset)) == reason
    assert _reason(text, HeuristicsConfig(preset="none")) is None
    threshold = getattr(HeuristicsConfig(preset="none"), reason)
    assert _reason(text, HeuristicsConfig(preset=preset, **{reason: threshold})) != reason


@pytest.mark.parametrize(
    ("rule", "threshold", "text"),
    [
        ("maximum_duplicate_paragraph_characters", 0.2, "one paragraph\n\none paragraph"),
        ("maximum_javascript_lines", 0.4, "no javascript\nhere"),
        ("maximum_policy_lines", 0.4, "our privacy policy\nhere"),
        ("maximum_lines_of_few_words", 0.4, "two words\nand three words"),
        ("maximum_unterminated_lines", 0.4, "ends not\nends."),
    ],
)
def test_rules_that_no_preset_asks_or_that_others_precede(rule: str, threshold: float, text: str) -> None:
    assert _reason(text, HeuristicsConfig(preset="none", **{rule: threshold})) == rule
    assert _reason(text, HeuristicsConfig(preset="none", **{rule: 0.5})) is None or rule.endswith("characters")


def test_every_key_of_the_section_is_a_rule() -> None:
    assert set(_RULES) == set(HeuristicsConfig.model_fields) - {"preset", "by_language"}


def test_a_preset_holds_for_the_keys_that_are_not_given() -> None:
    rules = HeuristicsConfig(preset="fineweb", minimum_words=7)
    assert (rules.minimum_words, rules.minimum_sentences, rules.maximum_words) == (7, 5, 100_000)
    assert HeuristicsConfig.model_validate(rules.model_dump(mode="json")) == rules


def test_the_first_rule_that_fails_is_the_reason_and_rows_keep_their_order() -> None:
    table = signal_table(pa.array(["- # …", PROSE, PROSE[:511]]))
    assert reasons(table, HeuristicsConfig()).to_pylist() == ["minimum_characters", None, "minimum_characters"]
    assert reasons(table, HeuristicsConfig(preset="none")).to_pylist() == [None] * 3
    assert len(reasons(table.slice(0, 0), HeuristicsConfig())) == 0
