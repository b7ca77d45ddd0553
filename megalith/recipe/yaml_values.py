"""YAML as plain values, with the line of each key: the part of YAML 1.2 that a recipe needs, and bounds on the rest.

Dates, sexagesimal numbers and the words `yes`, `no`, `on` and `off` are text here, as YAML 1.2 has it (`no` is also the
language code of Norwegian). Aliases and merge keys work. Tags other than YAML's plain ones are refused, and so are
texts that are deep, long or self-referring enough to stop a reader.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

DEEPEST = 32
MOST_NODES = 100_000
"""Values in a text, those that an alias repeats counted each time."""
MOST_DIGITS = 400
"""No count or rate of a recipe is longer; Python itself reads at most 4,300 digits."""

_PLAIN = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class UnreadableError(ValueError):
    """A text that is not YAML, or not the part of it that is read here; `line` counts from 1, and may be unknown."""

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.line = line


@dataclass(frozen=True)
class Document:
    """One YAML document: plain values, and the line of each dotted key of its nested mappings."""

    value: Any
    lines: Mapping[str, int]


def read_yaml(text: str) -> Document:
    """Read a text of one document (none is null). Raises UnreadableError."""
    found = _UNPRINTABLE.search(text)
    if found:
        raise UnreadableError(f"{_named(found[0])} stands in it", text.count("\n", 0, found.start()) + 1)
    try:
        return _Reader(yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise UnreadableError(f"this is not YAML: {error.problem or error.context}", line) from error
    except yaml.YAMLError as error:
        raise UnreadableError(f"this is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, OverflowError) as error:  # an escape such as "\U99999999"
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"this is not YAML: {error}") from error


@dataclass(frozen=True)
class _Node:
    """A value, where it begins, how many values it holds, and the lines of the keys in it."""

    value: Any
    line: int
    size: int = 1
    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)


class _Reader:
    """Builds values from the parser's events, which come one by one: nothing beyond a bound is ever read."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Node | None] = {}
        self._nodes = 0

    def document(self) -> Document:
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return Document(None, {})
        node = self._node(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if isinstance(after, yaml.DocumentStartEvent):
            raise UnreadableError("a second document begins, and one is read", _line(after))
        return Document(node.value, {".".join(keys): line for keys, line in node.lines.items()})

    def _node(self, event: yaml.Event, depth: int) -> _Node:
        line = _line(event)
        if depth > DEEPEST:
            raise UnreadableError(f"values are nested more than {DEEPEST} deep", line)
        if isinstance(event, yaml.AliasEvent):
            node = self._aliased(str(event.anchor), line)
            self._count(node.size, line)
            return node
        self._count(1, line)
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            _refuse_tag(event.tag, "map", line)
            node = self._mapping(line, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            _refuse_tag(event.tag, "seq", line)
            node = self._sequence(line, depth)
        else:
            assert isinstance(event, yaml.ScalarEvent)
            node = _Node(_scalar(event, line), line)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _count(self, more: int, line: int) -> None:
        self._nodes += more
        if self._nodes > MOST_NODES:
            raise UnreadableError(f"it holds more than {MOST_NODES:,} values", line)

    def _aliased(self, anchor: str, line: int) -> _Node:
        if anchor not in self._anchors:
            raise UnreadableError(f"the alias *{anchor} has no anchor &{anchor} before it", line)
        node = self._anchors[anchor]
        if node is None:
            raise UnreadableError(f"the alias *{anchor} stands inside the value that it repeats", line)
        return node

    def _sequence(self, line: int, depth: int) -> _Node:
        inner = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            inner.append(self._node(event, depth + 1))
        return _Node([one.value for one in inner], line, 1 + sum(one.size for one in inner))

    def _mapping(self, line: int, depth: int) -> _Node:
        values: dict[str, Any] = {}
        lines: dict[tuple[str, ...], int] = {}
        merged: list[_Node] = []
        size = 1
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event, lines)
            inner = self._node(next(self._events), depth + 1)
            size += inner.size
            if key == "<<" and getattr(event, "style", None) is None:
                merged += _merged(inner)
                continue
            values[key] = inner.value
            lines[key,] = _line(event)
            lines |= {(key, *rest): at for rest, at in inner.lines.items()}
        for one in merged:  # what the mapping says itself wins, then the first of those merged
            new = one.value.keys() - values.keys()
            values |= {key: value for key, value in one.value.items() if key in new}
            lines |= {keys: at for keys, at in one.lines.items() if keys[0] in new}
        return _Node(values, line, size, lines)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _key(event: yaml.Event, lines: Mapping[tuple[str, ...], int]) -> str:
    """The text of a key; a number or a word such as `null` is its text too."""
    line = _line(event)
    if not isinstance(event, yaml.ScalarEvent):
        raise UnreadableError("a key is a list, a mapping or an alias, not text", line)
    _refuse_tag(event.tag, "str", line)
    key = _checked(event.value, line)
    if (key,) in lines:
        raise UnreadableError(f"{shorten(key)} is given twice, first in line {lines[key,]}", line)
    return key


def _merged(node: _Node) -> list[_Node]:
    """The mappings of a merge key: one, or a list of them (whose lines are not kept apart)."""
    listed = node.value if isinstance(node.value, list) else []
    parts = [node] if isinstance(node.value, dict) else [_Node(one, node.line) for one in listed]
    if not parts or not all(isinstance(one.value, dict) for one in parts):
        raise UnreadableError("a merge key (<<) has a mapping, or a list of mappings", node.line)
    return parts


def _scalar(event: yaml.ScalarEvent, line: int) -> Any:
    text = _checked(event.value, line)
    tag = event.tag
    if tag is not None and tag != "!":
        return _tagged(tag, text, line)
    if not event.implicit[0] or tag == "!":
        return text
    if _NULL.fullmatch(text):
        return None
    if found := _BOOLEAN.fullmatch(text):
        return bool(found[1])
    if _INTEGER.fullmatch(text):
        return _integer(text, line)
    return float(_bounded(text, line)) if _FLOAT.fullmatch(text) else text


def _tagged(tag: str, text: str, line: int) -> Any:
    kind = tag.removeprefix(_PLAIN)
    if kind == "str":
        return text
    if kind == "null" and _NULL.fullmatch(text):
        return None
    if kind == "bool" and (found := _BOOLEAN.fullmatch(text)):
        return bool(found[1])
    if kind == "int" and _INTEGER.fullmatch(text):
        return _integer(text, line)
    if kind == "float" and (_FLOAT.fullmatch(text) or _INTEGER.fullmatch(text)):
        return float(_bounded(text, line))
    raise UnreadableError(_unknown_tag(tag), line)


def _integer(text: str, line: int) -> int:
    digits = _bounded(text, line)
    base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
    try:
        return int(digits, base)
    except ValueError as error:
        raise UnreadableError(f"{shorten(text)} is not a whole number", line) from error


def _bounded(text: str, line: int) -> str:
    """The number without underscores, and as Python writes infinity and NaN."""
    digits = text.replace("_", "")
    if len(digits) > MOST_DIGITS:
        raise UnreadableError(f"a number of {len(digits):,} digits is more than is read ({MOST_DIGITS})", line)
    return re.sub(r"\.(inf|nan)$", r"\1", digits.lower())


def _checked(text: str, line: int) -> str:
    """Text without the characters that only an escape can bring in; JSON's escaped pairs are one character each."""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    found = unprintable(text)
    if found is not None:
        raise UnreadableError(f"{found} stands in a value", line)
    return text


def unprintable(text: str) -> str | None:
    """The first character of a text that is neither text nor white space, in words."""
    found = _UNPRINTABLE.search(text)
    return None if found is None else _named(found[0])


def _named(character: str) -> str:
    if 0xD800 <= ord(character) < 0xE000:
        return "a byte that is not UTF-8" if 0xDC80 <= ord(character) <= 0xDCFF else "half a character (a surrogate)"
    return f"the control character U+{ord(character):04X}"


def _refuse_tag(tag: str | None, plain: str, line: int) -> None:
    if tag not in (None, "!", _PLAIN + plain):
        raise UnreadableError(_unknown_tag(str(tag)), line)


def _unknown_tag(tag: str) -> str:
    shown = tag.replace(_PLAIN, "!!")
    return f"the tag {shorten(shown)} is not taken here"


def shorten(text: str, most: int = 80) -> str:
    """The text itself, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"
