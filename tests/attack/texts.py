"""Texts that make careless patterns and loops slow, and pages whose headers lie."""

import random

PIECES = (
    " ", "\t", "\u00a0", "\u3000", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\x00", "\x1b[31m", "\x9b",
    "a", "A", "é", "e\u0301", "\u0301", "\u200b", "\u200d", "\ufeff", "\ud7ff", "\U0001f600", "\U0001f468\u200d",
    "1", "0", "9.", "1,", "1-", "+1", "(", ")", "[", "]", "{", "}", "<", ">", "</", "<a", "<!--", "-->", "<![CDATA[",
    "&", "&amp;", "&#", "&#x", ";", ":", "://", "http://", "www.", ".", "..", "...", "…", ",", "-", "--", "—", "_", "=",
    "==", "+", "@", "a@", "@a.", "a.", "a.b@", "1.2.3.", "::", "f:", "/", "//", "\\", "|", "#", "*", "'", '"', "`", "!",
    "? ", "a ", "a, ", "the ", "The end. ", "a\n", "a\n\n", "- a\n", "• ", "lorem ipsum ", "-----BEGIN ", "eyJ", "AKIA",
    "sk-", "ghp_", "key=", "password: ", "Â", "â€", "Ã©", "ï»¿", "中", "中文。", "ไทย", "ا", "\u202e", "क्", "ﷺ",
)  # fmt: skip


def slow(dice: random.Random, characters: int) -> str:
    """A long text of few pieces, over and over."""
    among = PIECES[:14] if dice.random() < 0.3 else PIECES  # white space stands first
    pieces = [dice.choice(among) for _ in range(dice.choice((1, 1, 1, 2, 3)))]
    piece = "".join(pieces)
    body = piece * (characters // len(piece))
    return dice.choice(("", "word ", "<", "http://a.b/", "x@", "+1 ")) + body + dice.choice(("", "x", "\n", "!", ">"))


def page(dice: random.Random, sentence: str) -> bytes:
    """An HTML page with something wrong in it."""
    body = f"<p>{sentence} é “中” \u3042</p>" * 10
    which = dice.randrange(8)
    if which == 0:
        depth = dice.choice((100, 5000, 200_000))
        tag = dice.choice(("div", "b", "table", "ul><li", "font", "a", "svg", "template", "p", "span"))
        body = f"<{tag}>" * depth + body
    elif which == 1:
        body = slow(dice, 100_000) + body
    elif which == 2:
        body = f"<table>{'<tr><td>' * 20_000}{body}"
    elif which == 3:
        body = f"<div {' '.join(f'a{place}=1' for place in range(20_000))}>{body}"
    elif which == 4:
        body = f"<script>{slow(dice, 50_000)}</script><style>{body}"
    elif which == 5:
        body = f"<!DOCTYPE {slow(dice, 20_000)}" + body
    charset = dice.choice(CHARSETS)
    html = f"<html><head><meta charset={charset}><title>t</title></head><body>{body}</body></html>"
    encoding = dice.choice(("utf-8", "utf-16", "utf-32", "latin-1", "utf-8-sig", "shift_jis", "utf-7"))
    made = html.encode(encoding, errors="replace")
    return made if dice.random() < 0.5 else made + b"\xff\xfe\x80\x1b$B\xe3\x81" + dice.randbytes(20)


CHARSETS = (
    "utf-8", "undefined", "idna", "punycode", "utf-7", "utf-16", "utf-32", "unicode_escape", "raw_unicode_escape",
    "unicode-escape", "rot13", "hex", "base64", "zlib", "bz2", "uu", "quopri", "charmap", "mbcs", "oem", "palmos", "x",
    "", '""', "'", "\x00", "utf-8\x00", "gb18030", "big5-hkscs", "iso-2022-jp", "iso-2022-kr", "hz", "cp037", "cp1252",
    "euc_jis_2004", "macintosh", "x-user-defined", "replacement", "ascii", "latin1", "utf-16le", "UTF8", "tactis", "..",
    "a" * 5000, "utf-8;q=1", "%s", "../../x", "encodings.utf_8", "aliases", "string_escape", "koi8-r",
)  # fmt: skip
