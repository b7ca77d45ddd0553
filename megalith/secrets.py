"""Secrets in addresses and of the environment: masked wherever an address or an error is written or shown.

An address keeps its secrets only where it is asked; its digest is that of the whole, so masking makes no two sources
one. The values of variables such as AWS_SECRET_ACCESS_KEY and HF_TOKEN are masked as they are: a client of a store
may repeat them in what it says.
"""

import os
import re
from typing import TypeVar

MASK = "***"
_NAMES = "auth|credential|hmac|jwt|key|pass|policy|pwd|secret|session|sig|token"
_MASKED = (
    re.compile(r"\b(s3:/{1,2})[^\s?#@:/]*:[^\s?#]*(@)", re.IGNORECASE),  # a secret key may hold slashes
    re.compile(r"\b([a-z][a-z0-9+.-]*:/{1,2})[^\s/?#\"']+(@)", re.IGNORECASE),
    re.compile(r"(%3A%2F%2F)[^\s/?#&]+?(%40)", re.IGNORECASE),
    re.compile(rf"([?&;#][^\s=&]*(?:{_NAMES})[^\s=&]*=)[^\s&#\"']+()", re.IGNORECASE),
)
_VARIABLE = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY)(_|$)", re.IGNORECASE)
_SHORTEST = 8
"""A value of fewer characters may be any word."""
Value = TypeVar("Value")


def masked(value: Value) -> Value:
    """The value with names, passwords, signatures and keys in addresses replaced, in lists and mappings, too."""
    made: object = value
    if isinstance(value, str):
        made = value
        for pattern in _MASKED if ":/" in value or "%3A" in value.upper() or "=" in value else ():
            made = pattern.sub(rf"\g<1>{MASK}\g<2>", str(made))
        for secret in _of_the_environment():
            made = str(made).replace(secret, MASK)
    elif isinstance(value, dict):
        made = {masked(name): masked(held) for name, held in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(masked(held) for held in value)
    return made  # type: ignore[return-value]  # of the kind that came


def _of_the_environment() -> list[str]:
    """The values of variables whose names say that they are secret, the longest first."""
    held = (value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) >= _SHORTEST)
    return sorted(held, key=len, reverse=True)
