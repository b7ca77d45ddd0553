"""Who may ask: the Host and Origin of a request, and the API key.

A page of another site can make a browser ask a server on this machine, also under a name of its own that it points to
127.0.0.1 (DNS rebinding). Such a request names the other site in `Host` or `Origin`. So `Host` is an address in digits,
`localhost`, or a name that was allowed; and `Origin`, where a browser sends it, is the very host that is asked.
"""

import hmac
import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from megalith.serving.errors import ApiError


def check_host(headers: Mapping[str, str], allowed: Collection[str]) -> None:
    """Raise ApiError (403) for a request of another site."""
    host = headers.get("host", "")
    name = _name("//" + host)
    if not (name in allowed or name == "localhost" or _is_address(name)):
        raise ApiError(
            403,
            "This server does not answer to that Host. Start it with --allowed-host NAME to have it answer.",
            code="host_not_allowed",
        )
    origin = headers.get("origin")
    if origin is None:
        return
    parts = origin.partition("://")[2]
    if not parts or (parts != host and _name(origin) not in allowed):
        raise ApiError(403, "This server does not answer pages of other sites.", code="origin_not_allowed")


def check_key(headers: Mapping[str, str], key: str | None) -> None:
    """Raise ApiError (401) where a key is needed and is not there; the comparison takes the same time for any."""
    if key is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), key.encode())
    if scheme.lower() != "bearer" or not same:
        raise ApiError(
            401, "The API key is missing or wrong: send `Authorization: Bearer KEY`.", code="invalid_api_key"
        )


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
