"""Text made whole: broken encodings mended by ftfy, one kind of line end, no control characters (MT-NLG §3.1).

Quotation marks, ligatures and the width of characters stay as the writer set them: full-width punctuation is that of
Chinese and Japanese. ftfy's own defaults, which MT-NLG used, make all of them plain; they can be asked for.
"""

import functools
import re
import sys
import unicodedata

import ftfy

_ODD = re.compile(r"[^\t\n\x20-\x7e\xa0]")
_BREAKABLE = re.compile(
    r"[^\x00-\x7f]{2}|[\x80-\x9fÂÃŒœ]"  # without these ftfy sees no broken encoding (a test compares),
    r"|[\x00-\x08\x0b-\x1f\x7f"  # and without these it changes nothing but quotation marks
    r"\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\u2028\u2029\u206a-\u206f\u3000\ud800-\udfff\ufb00-\ufb06\ufeff-\uffff]"
)
_TRAILING = re.compile(r"(?<![ \t])[ \t]+\n")  # a run is tried once, from its start
_GAP = re.compile(r"\n{3,}")
_MOST_MARKS = 30
_JOINER = "\u034f"  # COMBINING GRAPHEME JOINER: shows nothing, and marks are not put in order across it
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def clean(text: str, *, straight_quotes: bool = False, plain_letters: bool = False) -> str:
    """The text as it enters the funnel: mended, plain spaces, none at the end of a line, single blank lines.

    `straight_quotes` makes curly quotation marks plain, `plain_letters` full-width characters and ligatures.

    No letter keeps more than 30 combining marks in a row: a joiner stands after each 30, as in Unicode's Stream-Safe
    Text Format (UAX #15). Putting marks in order takes time that grows with the square of their number.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\v", "\n")
    if _ODD.search(text):  # ftfy need not see plain ASCII, nor no-break spaces
        config = _config(straight_quotes, plain_letters)
        text = "\n".join(_mend(line, config) if _ODD.search(line) else line for line in text.split("\n"))
    return _GAP.sub("\n\n", _TRAILING.sub("\n", text.replace("\xa0", " "))).strip()


@functools.cache
def _config(straight_quotes: bool, plain_letters: bool) -> ftfy.TextFixerConfig:
    return ftfy.TextFixerConfig(
        unescape_html=False,  # "&lt;" in extracted text is meant
        uncurl_quotes=straight_quotes,
        fix_character_width=plain_letters,
        fix_latin_ligatures=plain_letters,
        explain=False,
    )


def _mend(line: str, config: ftfy.TextFixerConfig) -> str:
    if not _BREAKABLE.search(line) and unicodedata.is_normalized("NFC", line):
        return ftfy.fixes.uncurl_quotes(line) if config.uncurl_quotes else line
    line = _marks().sub(lambda run: run[0] + _JOINER, line)
    return _CONTROL.sub("", ftfy.fix_text(line, config))


@functools.cache
def _marks() -> re.Pattern[str]:
    """So many combining marks that another follows."""
    marks = "".join(sign for sign in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(sign))
    return re.compile(f"[{re.escape(marks)}]{{{_MOST_MARKS}}}(?=[{re.escape(marks)}])")
