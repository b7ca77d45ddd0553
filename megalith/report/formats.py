"""Figures as text, with their units. A missing or non-finite value becomes a dash, so any run has a page."""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from megalith.console import human_bytes, human_count, human_seconds

DASH = "—"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: Any) -> float | None:
    """`value` as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def pair(value: Any) -> tuple[float, float] | None:
    """`value` as an interval of two finite numbers, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def _of_a_number(form: Callable[..., str]) -> Callable[..., str]:
    @wraps(form)
    def or_dash(value: Any, *rest: Any) -> str:
        found = number(value)
        return DASH if found is None else form(found, *rest)

    return or_dash


@_of_a_number
def whole(value: float) -> str:
    """An exact count: 1,600."""
    return f"{value:,.0f}"


@_of_a_number
def count(value: float) -> str:
    """A rounded count: 842, 1.73M."""
    return f"{value:,.0f}" if abs(value) < 10_000 and value == int(value) else human_count(value)


@_of_a_number
def fixed(value: float, digits: int = 3) -> str:
    """`digits` digits after the point, with a true minus sign."""
    return f"{value:,.{digits}f}".replace("-", "−")


@_of_a_number
def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits; very large and small numbers as powers of ten."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        places = digits if value == 0 else digits - 1 - math.floor(math.log10(abs(value)))
        return fixed(value, max(0, places))
    return power(value, digits)


@_of_a_number
def power(value: float, digits: int = 3) -> str:
    """A very large or small number: 2.00 × 10¹³."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.replace('-', '−')} × 10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


@_of_a_number
def percent(share: float, digits: int = 1) -> str:
    """A share of one as percent."""
    return f"{fixed(100 * share, digits)} %"


@_of_a_number
def difference(share: float) -> str:
    """A relative difference with its sign: +3.2 %."""
    if share == 0:
        return "none"
    if abs(share) >= 9.995:
        return f"{significant(1 + share, 2)} ×"
    return f"{'+' if share >= 0 else '−'}{abs(100 * share):.1f} %"


@_of_a_number
def data(number_of_bytes: float) -> str:
    """Bytes in powers of 1000: 8.21 MB."""
    return human_bytes(number_of_bytes)


@_of_a_number
def duration(seconds: float) -> str:
    """A duration: 850 ms, 42.1 s, 6 min 05 s."""
    return human_seconds(seconds)


def counted(value: Any, one: str, more: str | None = None) -> str:
    """A count and its noun: 1 thread, 2 threads."""
    return f"{whole(value)} {one if value == 1 else more or one + 's'}"


def score(value: Any, metric: Any) -> str:
    """A task's score in the unit of its metric: accuracies as percent, others at three significant digits."""
    return percent(value) if is_share(metric) else significant(value)


def is_share(metric: Any) -> bool:
    """Whether a metric is a share of one."""
    return isinstance(metric, str) and ("accuracy" in metric or metric.startswith("acc") or metric == "exact_match")


def span(value: Any, form: Callable[..., str], *rest: Any) -> str:
    """An interval: low – high."""
    bounds = pair(value)
    return DASH if bounds is None else f"{form(bounds[0], *rest)} – {form(bounds[1], *rest)}"


def words(name: Any) -> str:
    """A name from the code as words, made visible: minimum_words → minimum words."""
    return str(visible(str(name))).replace("_", " ").strip() if name else DASH


def visible(value: Any) -> Any:
    """A string whose control characters are replaced by their pictures, and characters that reorder text by �.

    Everything printed on a page passes through here, then through HTML escaping.
    """
    return value.translate(_VISIBLE) if type(value) is str else value


_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_BREAKING = (0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000))
_VISIBLE = {**_CONTROLS, **dict.fromkeys(_BREAKING, 0xFFFD)}  # DEL, C1, overrides of direction, lone surrogates
