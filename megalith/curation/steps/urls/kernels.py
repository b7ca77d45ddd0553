"""One pass over the bytes of a batch of URLs: host, path and words, looked up in sets of hashes.

Hashes are FNV-1a in 64 bits, finished as MurmurHash3's: among a million URLs and a list of five million names one false
match is to be expected in some three hundred thousand runs.
"""

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from megalith.ngrams.words import FNV_OFFSET, FNV_PRIME, MIX

Array = npt.NDArray[Any]

KEPT, IP_HOST, DOMAIN, ADDRESS, HARD_WORD, SOFT_WORDS, FOREIGN = range(7)
"""Classes of a URL; a FOREIGN one has a host that is not ASCII, and is examined again in ASCII."""

_DISTINCT = 64
"""Soft words that are told apart in one URL."""


@numba.njit(cache=True, nogil=True, inline="always")
def _step(state: np.uint64, byte: np.uint8) -> np.uint64:
    return (state ^ np.uint64(byte)) * FNV_PRIME


@numba.njit(cache=True, nogil=True, inline="always")
def _end(state: np.uint64) -> np.uint64:
    mixed = (state ^ (state >> np.uint64(33))) * MIX
    mixed ^= mixed >> np.uint64(33)
    return mixed if mixed else np.uint64(1)


@numba.njit(cache=True, nogil=True, inline="always")
def _lower(byte: np.uint8) -> np.uint8:
    return np.uint8(byte + 32) if 65 <= byte <= 90 else byte


@numba.njit(cache=True, nogil=True)
def hash_forwards(data: Array, offsets: Array) -> Array:
    """The hash of each entry, as of addresses and words."""
    found = np.empty(len(offsets) - 1, np.uint64)
    for entry in range(len(found)):
        state = FNV_OFFSET
        for at in range(offsets[entry], offsets[entry + 1]):
            state = _step(state, data[at])
        found[entry] = _end(state)
    return found


@numba.njit(cache=True, nogil=True)
def hash_backwards(data: Array, offsets: Array) -> Array:
    """The hash of each entry from its last byte to its first, as of domains: a suffix of labels is a prefix of it."""
    found = np.empty(len(offsets) - 1, np.uint64)
    for entry in range(len(found)):
        state = FNV_OFFSET
        for at in range(offsets[entry + 1] - 1, offsets[entry] - 1, -1):
            state = _step(state, data[at])
        found[entry] = _end(state)
    return found


@numba.njit(cache=True, nogil=True)
def fill(hashes: Array, values: Array, keys: Array, held: Array) -> None:
    """Put hashes and values into a table of open addressing, of twice their number or more. The first value stays."""
    mask = np.uint64(len(keys) - 1)
    for entry in range(len(hashes)):
        place = hashes[entry] & mask
        while keys[place] != 0 and keys[place] != hashes[entry]:
            place = (place + np.uint64(1)) & mask
        if keys[place] == 0:
            keys[place] = hashes[entry]
            held[place] = values[entry]


@numba.njit(cache=True, nogil=True, inline="always")
def _value(hashed: np.uint64, keys: Array, held: Array) -> int:
    """Return the value of a hash in the table, or −1."""
    mask = np.uint64(len(keys) - 1)
    place = hashed & mask
    while keys[place] != 0:
        if keys[place] == hashed:
            return int(held[place])
        place = (place + np.uint64(1)) & mask
    return -1


@numba.njit(cache=True, nogil=True)
def judge(
    data: Array,
    offsets: Array,
    domain_keys: Array,
    domain_lists: Array,
    address_keys: Array,
    address_lists: Array,
    word_keys: Array,
    word_kinds: Array,
    minimum_soft_words: int,
    drop_ip_hosts: bool,
    verdicts: Array,
    lists: Array,
) -> None:
    """Fill in what each URL is found to be, and by which list."""
    soft = np.empty(_DISTINCT, np.uint64)
    for url in range(len(offsets) - 1):
        first = offsets[url]
        last = offsets[url + 1]
        while first < last and data[first] <= 32:
            first += 1
        while last > first and data[last - 1] <= 32:
            last -= 1
        start, stop, path = _host(data, first, last)
        verdicts[url] = KEPT
        lists[url] = -1
        if start == stop:
            continue
        foreign = False
        for at in range(start, stop):
            foreign |= data[at] >= 0x80 or data[at] == 0x25
        if foreign:
            verdicts[url] = FOREIGN
            continue
        if drop_ip_hosts and _is_number(data, start, stop):
            verdicts[url] = IP_HOST
            continue
        found = _find_domain(data, start, stop, domain_keys, domain_lists)
        if found >= 0:
            verdicts[url] = DOMAIN
            lists[url] = found
            continue
        found = _find_address(data, start, stop, path, last, address_keys, address_lists)
        if found >= 0:
            verdicts[url] = ADDRESS
            lists[url] = found
            continue
        if len(word_keys) > 1:
            verdicts[url] = _judge_words(data, start, last, word_keys, word_kinds, minimum_soft_words, soft)


@numba.njit(cache=True, nogil=True)
def _host(data: Array, first: int, last: int) -> tuple[int, int, int]:
    """Where the host starts, where it ends (without port and final dot), where the path starts."""
    start = first
    at = first
    while at + 2 < last:  # a scheme
        byte = data[at]
        if byte == 0x3A:
            if data[at + 1] == 0x2F and data[at + 2] == 0x2F:
                start = at + 3
            break
        if byte == 0x2F or byte == 0x3F or byte == 0x23:
            break
        at += 1
    if start == first and first + 1 < last and data[first] == 0x2F and data[first + 1] == 0x2F:
        start = first + 2
    path = start
    while path < last and data[path] != 0x2F and data[path] != 0x3F and data[path] != 0x23 and data[path] != 0x5C:
        if data[path] == 0x40:  # a user's name stands before
            start = path + 1
        path += 1
    stop = path
    if start < stop and data[start] == 0x5B:  # [IPv6]
        while stop > start and data[stop - 1] != 0x5D:
            stop -= 1
    else:
        for at in range(start, path):
            if data[at] == 0x3A:
                stop = at
                break
        while stop > start and data[stop - 1] == 0x2E:
            stop -= 1
    return start, max(start, stop), path


@numba.njit(cache=True, nogil=True)
def _is_number(data: Array, start: int, stop: int) -> bool:
    """An IPv6 address, or an IPv4 one in any of the forms that browsers take (four, or one; decimal or 0x…)."""
    if data[start] == 0x5B:
        return True
    label = stop
    while label > start and data[label - 1] != 0x2E:
        label -= 1
    if stop - label > 2 and data[label] == 0x30 and _lower(data[label + 1]) == 0x78:
        label += 2
        for at in range(label, stop):
            byte = _lower(data[at])
            if not (48 <= byte <= 57 or 97 <= byte <= 102):
                return False
        return True
    for at in range(label, stop):  # noqa: SIM110  # Numba compiles loops
        if not 48 <= data[at] <= 57:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _find_domain(data: Array, start: int, stop: int, keys: Array, lists: Array) -> int:
    """The list that has the host or a domain it is under, the shortest such domain; −1."""
    state = FNV_OFFSET
    for at in range(stop - 1, start - 1, -1):
        byte = _lower(data[at])
        if byte == 0x2E and at < stop - 1:
            found = _value(_end(state), keys, lists)
            if found >= 0:
                return found
        state = _step(state, byte)
    return _value(_end(state), keys, lists)


@numba.njit(cache=True, nogil=True)
def _find_address(data: Array, start: int, stop: int, path: int, last: int, keys: Array, lists: Array) -> int:
    """The list that has the address or a path above it; −1."""
    if len(keys) == 1:
        return -1
    if stop - start > 4 and data[start + 3] == 0x2E:
        www = True
        for at in range(start, start + 3):
            www &= _lower(data[at]) == 0x77
        if www:
            start += 4
    state = FNV_OFFSET
    for at in range(start, stop):
        state = _step(state, _lower(data[at]))
    for at in range(path, last):
        byte = data[at]
        if byte == 0x23:  # a fragment is no part of an address
            last = at
            break
        if byte == 0x2F or byte == 0x3F or byte == 0x26:
            found = _value(_end(state), keys, lists)
            if found >= 0:
                return found
        state = _step(state, byte)
    return _value(_end(state), keys, lists)


@numba.njit(cache=True, nogil=True)
def _judge_words(data: Array, start: int, last: int, keys: Array, kinds: Array, minimum: int, soft: Array) -> int:
    """HARD_WORD, SOFT_WORDS or KEPT; words are runs of letters and digits, bytes beyond ASCII among them."""
    distinct = 0
    state = FNV_OFFSET
    inside = False
    at = start
    while at <= last:
        byte = _lower(data[at]) if at < last else np.uint8(0)
        if 48 <= byte <= 57 or 97 <= byte <= 122 or byte >= 0x80:
            state = _step(state, byte)
            inside = True
        else:
            if inside:
                hashed = _end(state)
                kind = _value(hashed, keys, kinds)
                if kind == HARD_WORD:
                    return HARD_WORD
                if kind == SOFT_WORDS and distinct < _DISTINCT:
                    known = False
                    for place in range(distinct):
                        known |= soft[place] == hashed
                    if not known:
                        soft[distinct] = hashed
                        distinct += 1
            state = FNV_OFFSET
            inside = False
            if byte == 0x25:  # %41 is one character, and none of a word
                at += 2
        at += 1
    return SOFT_WORDS if distinct >= minimum else KEPT
