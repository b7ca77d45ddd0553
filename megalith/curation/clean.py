"""Text made whole: broken encodings mended by ftfy, one kind of line end, no control characters (MT-NLG §3.1)."""

import re

import ftfy

_CONFIG = ftfy.TextFixerConfig(unescape_html=False, explain=False)  # "&lt;" in extracted text is meant
_ODD = re.compile(r"[^\t\n\x20-\x7e\xa0]")
_TRAILING = re.compile(r"[ \t]+\n")
_GAP = re.compile(r"\n{3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """The text as it enters the funnel: mended, plain spaces, none at the end of a line, single blank lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\v", "\n")
    if _ODD.search(text):  # ftfy need not see plain ASCII, nor no-break spaces
        text = "\n".join(_mend(line) if _ODD.search(line) else line for line in text.split("\n"))
    return _GAP.sub("\n\n", _TRAILING.sub("\n", text.replace("\xa0", " "))).strip()


def _mend(line: str) -> str:
    return _CONTROL.sub("", ftfy.fix_text(line, _CONFIG))
