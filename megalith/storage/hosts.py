"""Which addresses a server elsewhere may send us to: public ones alone.

A source that the user names may lie anywhere. What answers there may redirect, and could so have this machine ask its
own services, its neighbours, or the cloud's metadata (169.254.169.254) in its name. So a redirect leads to the host
that the user named or to a public address, and never from https:// to anything else. The address is looked at once
more where the connection stands, since a name can mean another one by then.
"""

import ipaddress
import socket
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class RefusedError(Exception):
    """A redirect leads where it may not."""


def followed(named: str, address: str, location: str) -> str:
    """The address that `address` redirects to. Raises RefusedError where one that was reached from `named` may not."""
    target = urljoin(address, location)
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError(f"it redirects to {parts.scheme or 'nothing'}:, which is no address of the web")
    if urlsplit(address).scheme == "https" and parts.scheme != "https":
        raise RefusedError("it redirects from https:// to http://, which anyone on the way can read and change")
    if not is_named(named, target):
        refuse_private(parts.hostname)
    return target


def is_named(named: str, address: str) -> bool:
    """Whether an address is at the host that the user named."""
    return urlsplit(named).hostname == urlsplit(address).hostname


def refuse_private(host: str) -> None:
    """Raise RefusedError for an address, or a name of this machine, that is not of the public internet."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost") or (_number(host) and not _is_public(host)):
        raise RefusedError(f"it redirects to {host}, which is no public address")


def _is_public(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # 0177.1, 2130706433: what some resolvers take for an address
        return False
    inner = None
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.is_global and not address.is_multicast and (inner is None or _is_public(str(inner)))


def _number(host: str) -> bool:
    """Whether a host is an address and no name, in any form."""
    return ":" in host or host.rpartition(".")[2].isdigit() or host.rpartition(".")[2].startswith("0x")


_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class _PublicHttp(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


class _PublicHttps(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _checked(super()._new_conn())


def _checked(connection: socket.socket) -> socket.socket:
    try:
        refuse_private(str(connection.getpeername()[0]))
    except RefusedError:
        connection.close()
        raise
    return connection


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PublicHttp


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _PublicHttps


def public_manager() -> urllib3.PoolManager:
    """Connections to public addresses alone; to another one they raise RefusedError."""
    manager = urllib3.PoolManager()
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager
