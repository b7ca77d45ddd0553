import random
import re
import time
import unicodedata

import ftfy
import pytest

from megalith.curation.steps.clean import clean


@pytest.mark.parametrize(
    "text",
    [
        "plain text\nof two lines",
        "the cafÃ© of mojibake",
        "“curled” quotes and ﬁne ligatures",
        "e\u0301 is composed",
        "1 &lt; 2 stays as it was written",
    ],
)
def test_text_is_mended_as_ftfy_mends_it(text: str) -> None:
    plain = {"straight_quotes": True, "plain_letters": True}
    assert clean(text, **plain) == ftfy.fix_text(text, ftfy.TextFixerConfig(unescape_html=False))


def test_control_characters_and_odd_white_space_go() -> None:
    assert clean("\ufeff a\x00b\x07\r\nc\xa0d  \r\r\r\re\x0cf\x1b[31m ") == "ab\nc d\n\ne\nf"


def test_cleaning_twice_is_cleaning_once() -> None:
    once = clean("â€œquotesâ€\x9d \n\n \n and\xa0spaces\t\n")
    assert clean(once) == once


def test_what_is_spared_ftfy_would_have_left_as_it_is() -> None:
    """Every character of the first two planes alone in a line, and lines of random ones."""
    config = ftfy.TextFixerConfig(unescape_html=False, explain=False)
    signs = [chr(code) for code in range(0x20, 0x20000) if not 0xD800 <= code < 0xE000]
    signs = [sign for sign in signs if unicodedata.category(sign)[0] not in "CZ"]
    draw = random.Random(0)
    likely = [*"aeinorst  .,'-", *(chr(code) for code in range(0xA1, 0x180)), *"‘’“”–—…€œŒÃÂ"]
    lines = [f"a {sign} b" for sign in signs[::7]] + ["".join(draw.choices(likely, k=12)) for _ in range(4000)]
    for line in lines:
        mended = re.sub(r"[\x00-\x1f\x7f-\x9f]", "", ftfy.fix_text(line, config))
        assert clean(line, straight_quotes=True, plain_letters=True) == mended.replace("\xa0", " ").strip(), line


@pytest.mark.parametrize(
    "text",
    [
        "港口的居民说：“桥修好了！”老师问（很小声）：谁修的？他用了３天；价钱１２０元。～完～ＡＢＣ",
        "「橋は直った。」　先生は（小さな声で）尋ねた：誰が？ ﾊﾝｶｸ",
        "„Die Brücke“, sagte er, ›ist fertig‹ – «oui», “yes”, it’s done",
        "naïve… ﬁne ﬂow 10 °C ＝ x² ½ № ™",
        "قال: «انتهى الجسر»؛ ثم سأل: مَن؟ ۱۲۳",
    ],
)
def test_punctuation_and_width_stay_as_they_were_written(text: str) -> None:
    assert clean(text) == text


def test_plain_quotation_marks_and_widths_are_made_when_asked_for() -> None:
    assert clean("说：“３天（ＯＫ）！”", plain_letters=True) == "说:“3天(OK)!”"
    assert clean("说：“３天”", straight_quotes=True) == '说："３天"'


@pytest.mark.parametrize("sign", [" ", "\t", "\xa0", " \t", "\u0301\u0323", "\u0327\u0301\u0323"])
def test_a_run_of_two_million_signs_is_cleaned_at_once(sign: str) -> None:
    """Each of them took time that grows with the square of the run: hours. The bound is of processor time."""
    start = time.process_time()
    clean(f"before{sign * (2_000_000 // len(sign))}after")
    assert time.process_time() - start < 20


def test_spaces_before_a_line_end_go_and_others_stay() -> None:
    assert clean("a \t \n  b \xa0\nc  d") == "a\n  b\nc  d"


def test_marks_beyond_thirty_are_parted_and_none_is_lost() -> None:
    text = clean("e" + "\u0323\u0301" * 40)
    assert text.count("\u0323") + text.count("\u1eb9") == text.count("\u0301") == 40
    assert max(map(len, text.split("\u034f"))) <= 31
    assert clean("e\u0301\u0323" * 3) == clean("\u1eb9\u0301" * 3)
