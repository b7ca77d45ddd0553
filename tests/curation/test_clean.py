import ftfy
import pytest

from megalith.curation.clean import clean


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
    assert clean(text) == ftfy.fix_text(text, ftfy.TextFixerConfig(unescape_html=False))


def test_control_characters_and_odd_white_space_go() -> None:
    assert clean("\ufeff a\x00b\x07\r\nc\xa0d  \r\r\r\re\x0cf\x1b[31m ") == "ab\nc d\n\ne\nf"


def test_cleaning_twice_is_cleaning_once() -> None:
    once = clean("â€œquotesâ€\x9d \n\n \n and\xa0spaces\t\n")
    assert clean(once) == once
