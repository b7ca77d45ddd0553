"""Private data in text: e-mail and IP addresses, telephone numbers and credentials, masked and counted.

A scan finds where such a thing may stand, and what stands there is then judged by its own rules: an address must be one
that a stranger could write to, a number one that could be called. Where rules cannot tell, text is left as it is; a
version number is worth more than one more masked address. Names of people and postal addresses are not looked for.
"""

import ipaddress
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from megalith.curation.steps.pii import scan
from megalith.recipe.filters import PrivateConfig

Array = npt.NDArray[Any]
Span = tuple[int, int, str]
"""First byte, byte after the last, kind."""

EMAIL, IP_ADDRESS, PHONE_NUMBER, KEY = "email", "ip_address", "phone_number", "key"
MASKS = {EMAIL: b"<EMAIL>", IP_ADDRESS: b"<IP_ADDRESS>", PHONE_NUMBER: b"<PHONE_NUMBER>", KEY: b"<KEY>"}
BLOCK_MOST_BYTES = 20_000
"""A private key of 16,384 bits takes 13,000."""
ASSIGNED_LEAST_BITS = 3.0
"""A character: of letters and digits at random 20 have 4, words and repeated signs less."""


def mask(texts: pa.Array, rules: PrivateConfig) -> tuple[pa.Array, Counter[str]]:
    """The texts with what the rules name replaced, and how many of each kind were (email, ip_address, …).

    The array keeps its type. What is masked already is left.
    """
    counts: Counter[str] = Counter()
    if rules == PrivateConfig():
        return texts, counts
    places = scan.candidates(texts, rules.emails, rules.ip_addresses, rules.phone_numbers, rules.keys)
    touched: dict[int, bytes] = {}
    starts = np.flatnonzero(np.diff(places[:, 0], prepend=-1))
    for of_text in np.split(places, starts[1:]) if len(places) else ():
        number = int(of_text[0, 0])
        data = texts[number].as_py().encode()
        spans = _spans(data, of_text[:, 1:].tolist())
        if spans:
            touched[number] = _replaced(data, spans)
            counts.update(kind for _, _, kind in spans)
    if not touched:
        return texts, counts
    changed = np.zeros(len(texts), bool)
    changed[list(touched)] = True
    new = pa.array([data.decode() for data in touched.values()], texts.type)
    return pc.replace_with_mask(texts, pa.array(changed), new), counts


def _spans(data: bytes, places: list[list[int]]) -> list[Span]:
    """List the places to mask in one text, in order. Of two that overlap the first is kept, or the longer."""
    judged = [span for kind, first, last in places if (span := _JUDGES[kind](data, first, last)) is not None]
    spans: list[Span] = []
    for span in sorted(judged, key=lambda span: (span[0], -span[1])):
        if not spans or span[0] >= spans[-1][1]:
            spans.append(span)
    return spans


def _replaced(data: bytes, spans: list[Span]) -> bytes:
    parts = []
    done = 0
    for first, last, kind in spans:
        parts += [data[done:first], MASKS[kind]]
        done = last
    return b"".join([*parts, data[done:]])


def _email(data: bytes, first: int, last: int) -> Span | None:
    local, _, domain = data[first:last].rpartition(b"@")
    domain = domain.rstrip(b".-")
    begun = len(local)
    local = local.lstrip(_BEFORE_LOCAL)
    start = first + begun - len(local)
    if not (_LOCAL_PART.fullmatch(local) and _DOMAIN.fullmatch(domain)):
        return None
    return start - _letters_before(data, start), start + len(local) + 1 + len(domain), EMAIL


def _letters_before(data: bytes, start: int) -> int:
    """Bytes of a name that goes on to the left in letters that are not ASCII; scripts without spaces end it."""
    found = 0
    for sign in reversed(data[max(0, start - 64) : start].decode(errors="ignore")):
        if not sign.isalnum() or unicodedata.east_asian_width(sign) in ("W", "F"):
            break
        found += len(sign.encode())
    return found


def _ipv4(data: bytes, first: int, last: int) -> Span | None:
    """A public address. One of single digits is likelier a section or a version, as is one behind such a word."""
    octets = data[first:last].split(b".")
    if max(map(len, octets)) == 1 or _BEFORE_VERSION.search(data[max(0, first - 24) : first]):
        return None
    address = ipaddress.IPv4Address(data[first:last].decode())
    return (first, last, IP_ADDRESS) if address.is_global and not address.is_multicast else None


def _ipv6(data: bytes, first: int, last: int) -> Span | None:
    spelled = data[first:last].decode()
    try:
        address = ipaddress.IPv6Address(spelled)
    except ValueError:
        return None
    groups = len([group for group in spelled.split(":") if group])
    return (first, last, IP_ADDRESS) if address.is_global and groups >= 3 else None


def _international(data: bytes, first: int, last: int) -> Span | None:
    """A + and the code of a country (ITU-T E.164), then 8 to 13 digits in all; further groups are not of the number."""
    spelled = data[first:last].decode()
    while sum(map(str.isdigit, spelled)) > 13:
        shorter = re.sub(r"[ ./()-]+\d+$", "", spelled)
        if shorter == spelled:
            return None
        spelled = shorter
    digits = re.sub(r"\D", "", spelled)
    if digits.startswith("1"):
        found = _NORTH_AMERICAN.match(spelled)
        return (first, first + found.end(), PHONE_NUMBER) if found else None
    if len(digits) < 8 or not _COUNTRY.match(digits) or len(set(digits)) < 4:
        return None
    return first, first + len(spelled), PHONE_NUMBER


def _north_american(data: bytes, first: int, last: int) -> Span | None:
    return first, last, PHONE_NUMBER


def _token(data: bytes, first: int, last: int) -> Span | None:
    if data.startswith(b"-----BEGIN", first):
        found = _BLOCK.match(data, first, min(len(data), first + BLOCK_MOST_BYTES))
    else:
        found = _TOKENS.match(data, first, last)
    return (first, found.end(), KEY) if found else None


def _assigned(data: bytes, first: int, last: int) -> Span | None:
    """A value that could not be read aloud: long, of letters and digits, and of much entropy."""
    value = data[first:last].rstrip(b".")
    if not (re.search(rb"\d", value) and re.search(rb"[A-Za-z]", value)):
        return None
    if _entropy(value) < ASSIGNED_LEAST_BITS or _SPOKEN.search(value):
        return None
    return first, first + len(value), KEY


def _entropy(value: bytes) -> float:
    """Bits a character, of the characters' own frequencies."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


_JUDGES: dict[int, Callable[[bytes, int, int], Span | None]] = {
    scan.EMAIL: _email,
    scan.IPV4: _ipv4,
    scan.IPV6: _ipv6,
    scan.INTERNATIONAL: _international,
    scan.NORTH_AMERICAN: _north_american,
    scan.TOKEN: _token,
    scan.ASSIGNED: _assigned,
}
_BEFORE_LOCAL = b".!#$%&'*+/=?^_`{|}~-"
_LOCAL_PART = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:[A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]{2,59})"
)
_BEFORE_VERSION = re.compile(
    rb"(?i)(?:\b(?:v|ver|version|versions|rev|revision|release|build|firmware|section|chapter|oid)|\xc2\xa7)[\s.:=\"'(]*\Z"
)
_NORTH_AMERICAN = re.compile(r"\+1[ .-]?\(?[2-9]\d{2}\)?[ .-]?[2-9]\d{2}[ .-]?\d{4}(?!\d)")
_COUNTRY = re.compile(
    r"7|2(?:0|7|[1-6]\d|9\d)|3(?:[0-469]|[578]\d)|4(?:[013-9]|2\d)|5(?:[1-8]|[09]\d)|6(?:[0-6]|[7-9]\d)|8(?:[1246]|[058]\d)|"
    r"9(?:[0-58]|[679]\d)"
)
_BLOCK = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}-----END [A-Z0-9 ]{0,40}-----"
)
_TOKENS = re.compile(
    rb"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    rb"|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255}|glpat-[A-Za-z0-9_-]{20,64}"
    rb"|AIza[A-Za-z0-9_-]{35}|xox[abprs]-[A-Za-z0-9-]{10,250}"
    rb"|sk-(?:[a-z]+-){0,2}(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{20,255}|[sr]k_live_[A-Za-z0-9]{16,255}"
    rb"|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,512}|hf_[A-Za-z0-9]{30,64}"
    rb"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
)
_SPOKEN = re.compile(rb"(?i)example|placeholder|changeme|your[_-]|xxxx|\.\.\.|://|0000000|1234567|abcdefg|\(|<")
