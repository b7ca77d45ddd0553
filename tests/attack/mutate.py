"""Values and bytes that nobody expects, and changes to values and bytes that are expected."""

import copy
import random
import string
from collections.abc import Sequence
from typing import Any

NUMBERS = (
    "0", "-0", "-1", "1", "2", "3", "7", "1e308", "1e309", "-1e309", ".inf", "-.inf", ".nan", "1e-320", "5e-324",
    "0x7fffffffffffffff", "9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775809",
    "1_000_000", "0b101", "0o17", "017", "1:30:00", "190:20:30", "1e3", "1.5e3", "+1", "1.", ".5", "1e400", "12e9",
    "4294967296", "2147483648", "99999999999999", "0.1", "1e-9", "0.5", "1024", "65537", "1000003",
)  # fmt: skip
WORDS = (
    "null", "~", "true", "false", "yes", "no", "on", "off", "''", '""', "' '", "[]", "{}", "[[]]", "{a: 1}", "[1, 2]",
    "[null]", "{null: null}", "{1: 2}", "{[1]: 2}", "{{a: b}: c}", "!!set {a, b}", "!!omap [a: 1]", "!!binary aGk=",
    "!!python/object/apply:os.system [id]", "!!python/name:os.system", "!!timestamp 2001-01-01", "2001-01-01",
    "2001-13-45", "2001-02-30", "0000-00-00", "2001-01-01 25:61:61", "2001-12-14t21:59:43.10-99:00", "!!int abc",
    "!!float abc", "!!int 0x", "!!bool maybe", "!!null x", "!foo bar", "!<tag:yaml.org,2002:int> x", "*a", "&a *a",
    "&a [*a]", "&a {b: *a}", "<<: 1", "{<<: 1}", "{<<: [1]}", "{<<: {a: 1}}", "{<<: &a {<<: *a}}", "|", ">", "%", "@",
    "`", "? a", "- a", "a: b: c", '"\\ud800"', '"\\udfff\\ud800"', '"\\x00"', '"\\x1b[31m"', '"\\u202e"', '"[/red]"',
    "[/red]", "local", "selene", "quickstart", "/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/mem", "/", "..", "~",
    "$HOME", "$NOT_SET", "${", "$", "~nobody", "file:///etc/passwd", "s3://", "https://", "http://[", "cc:",
    "http://127.0.0.1:1/x.warc", "https://user:secret@localhost:1/x.jsonl", "cc:CC-MAIN-2024-10", "a\x00b", "\ufeff",
    "é", "e\u0301", "\U0001f600", "ａ", "\u2028", "\x85", "\t", "#", " #", "a #b", "=", "==", "a=b",
)  # fmt: skip


def value(dice: random.Random) -> str:
    """Text of a YAML value."""
    which = dice.random()
    if which < 0.35:
        return dice.choice(NUMBERS)
    if which < 0.75:
        return dice.choice(WORDS)
    if which < 0.8:
        return dice.choice("0123456789") * dice.choice((19, 40, 309, 4299, 4301, 5000, 20000))
    if which < 0.84:
        depth = dice.choice((10, 100, 1000, 5000, 100000))
        opened, closed = dice.choice((("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("(", ")"), ("!!a ", "")))
        return opened * depth + closed * dice.choice((depth, 0))
    if which < 0.88:
        return bomb(dice)
    if which < 0.94:
        return "".join(dice.choice(string.printable) for _ in range(dice.choice((1, 3, 10, 100))))
    return "".join(chr(dice.choice((dice.randrange(0x20, 0x3000), dice.randrange(0x110000)))) for _ in range(5))


def plausible(dice: random.Random) -> str:
    """Text of a value that a recipe might hold, so that what reads it is reached."""
    which = dice.randrange(6)
    if which == 0:
        return dice.choice(("true", "false", "null", "none", "full", "selective", "bf16", "fp32", "fp16", "cosine"))
    if which == 1:
        return f"{dice.uniform(0, 1):.3g}"
    if which == 2:
        return f"{10 ** dice.uniform(0, 26):.3g}"
    if which == 3:
        return str(2 ** dice.randrange(40))
    if which == 4:
        return str(dice.randrange(1, 200))
    return str(int(10 ** dice.uniform(0, 18)))


def bomb(dice: random.Random) -> str:
    """Aliases of aliases, whose written-out form has no end."""
    wide, deep = dice.choice(((9, 9), (2, 40), (3, 12), (10, 6), (100, 3)))
    kind = dice.choice(("list", "map", "merge"))
    parts = ["&x0 [z]" if kind == "list" else "&x0 {k: z}"]
    for level in range(1, deep):
        names = ", ".join(f"*x{level - 1}" if kind == "list" else f"k{place}: *x{level - 1}" for place in range(wide))
        if kind == "list":
            parts.append(f"&x{level} [{names}]")
        elif kind == "map":
            parts.append(f"&x{level} {{{names}}}")
        else:
            parts.append(f"&x{level} {{<<: [{', '.join([f'*x{level - 1}'] * wide)}]}}")
    return f"[{', '.join(parts)}]"


def change_text(text: str, dice: random.Random) -> str:
    """A few edits of text."""
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        place = dice.randrange(len(text) + 1)
        which = dice.randrange(8)
        if which == 0:
            text = text[:place] + text[place + dice.choice((1, 2, 10, 100)) :]
        elif which == 1:
            text = text[:place] + value(dice) + text[place:]
        elif which == 2:
            text = text[:place] + dice.choice("\t\r\n \x00:-,[]{}&*!|>'\"%@`#?\ufeff\x85\u2028\x1b") + text[place:]
        elif which == 3:
            lines = text.splitlines(keepends=True)
            if lines:
                lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
            text = "".join(lines)
        elif which == 4:
            lines = text.splitlines(keepends=True)
            dice.shuffle(lines)
            text = "".join(lines)
        elif which == 5:
            text = text[:place]
        elif which == 6:
            end = min(len(text), place + dice.choice((1, 4, 20)))
            text = text[:place] + text[place:end] * dice.choice((2, 50)) + text[end:]
        else:
            text = text.replace("\n", dice.choice(("\r\n", "\r", "\n\n", "\n---\n", "\n...\n", "\n\t", "\n  ")))
    return text


def change_bytes(data: bytes, dice: random.Random) -> bytes:
    """A few edits of bytes."""
    for _ in range(dice.choice((1, 1, 2, 8))):
        place = dice.randrange(len(data) + 1)
        which = dice.randrange(7)
        if which <= 1 and data:
            changed = bytearray(data)
            changed[place % len(data)] ^= 1 << dice.randrange(8)
            data = bytes(changed)
        elif which == 2:
            data = data[:place]
        elif which == 3:
            data = data[:place] + dice.randbytes(dice.choice((1, 4, 64))) + data[place:]
        elif which == 4:
            data = data[:place] + data[place + dice.choice((1, 8, 512)) :]
        elif which == 5:
            size = dice.choice((1, 2, 4, 8))
            field = dice.choice((b"\0" * size, b"\xff" * size, b"\xff" * (size - 1) + b"\x7f"))
            data = data[:place] + field + data[place + size :]
        else:
            data = data + data[place:]
    return data


def change_value(whole: Any, dice: random.Random, strange: Sequence[Any]) -> Any:
    """A JSON-like value with one of its places put to something strange, taken out, or doubled."""
    whole = copy.deepcopy(whole)
    places: list[tuple[Any, Any]] = []

    def walk(inner: Any) -> None:
        entries = inner.items() if isinstance(inner, dict) else enumerate(inner) if isinstance(inner, list) else ()
        for key, one in entries:
            places.append((inner, key))
            walk(one)

    walk(whole)
    if not places:
        return dice.choice(strange)
    for _ in range(dice.choice((1, 1, 2))):
        inner, key = dice.choice(places)
        which = dice.randrange(6)
        try:
            if which <= 3:
                inner[key] = copy.deepcopy(dice.choice(strange))
            elif which == 4:
                del inner[key]
            elif isinstance(inner, dict):
                inner[dice.choice(("x", "", "\ud800", "a.b", str(key) + "s"))] = inner[key]
            else:
                inner.insert(0, inner[key])
        except (KeyError, IndexError):
            continue
    return whole


STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 1e308, 5e-324,
    float("inf"), float("nan"), float("-inf"), "", " ", "x", "0", "1e9", "nan", "\x00", "\x1b[31m", "\ud800", "[/red]",
    "é" * 1000, [], {}, [[]], {"a": 1}, [None], [1, 2, 3], "/dev/zero", "../../etc/passwd", "a" * 100_000,
)  # fmt: skip
