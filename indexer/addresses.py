"""Which network addresses may be called because a user named them.

A URL that a user hands in (a webhook's receiver, an archive on a web server) must not become a way into the network
that this process stands in: metadata services, databases, other people's consoles. A name is resolved here once and
every address behind it is checked; the caller then connects to what was checked and resolves nothing again.
"""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from indexer.errors import InvalidRequest, Unavailable

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv4 addresses as a network without IPv4 writes them (RFC 6052)."""

_UNICAST = ipaddress.ip_network("2000::/3")
"""The IPv6 addresses that are given to anybody (RFC 4291, section 2.4)."""

Resolver = Callable[..., list[tuple[Any, Any, int, str, tuple[Any, ...]]]]
"""`socket.getaddrinfo`, or what stands in for it."""


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the open internet: not private, loopback, link-local or reserved.

    An IPv4 address inside an IPv6 one (mapped, 6to4, NAT64) is judged by itself.

    Raises
    ------
    ValueError
        If it is not an IP address.
    """
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if parsed not in _UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast


def require_public_literal(host: str) -> None:
    """Refuse a host that is private by its very name, without asking a name server.

    Raises
    ------
    InvalidRequest
        If it is an IP address that is not public, or a name of this machine.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")):
        raise InvalidRequest(f"{host} is a name inside a private network")
    try:
        public = is_public(name.strip("[]"))
    except ValueError:
        return  # A name; what is behind it is checked when it is called.
    if not public:
        raise InvalidRequest(f"{host} is an address inside a private network")


def resolve(host: str, port: int, *, allow_private: bool, resolver: Resolver = socket.getaddrinfo) -> list[str]:
    """Resolve a host to the addresses that may be connected to, in the order to try them.

    Parameters
    ----------
    allow_private : bool
        Whether addresses inside private networks are accepted too.

    Raises
    ------
    InvalidRequest
        If any address behind the name is private: a name that leads to both kinds is an attack or a mistake.
    Unavailable
        If the name cannot be resolved now.
    """
    try:
        found = resolver(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the name {host} cannot be resolved: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise Unavailable(f"the name {host} has no address")
    if not allow_private and not all(is_public(address) for address in addresses):
        raise InvalidRequest(f"{host} leads into a private network")
    return addresses
