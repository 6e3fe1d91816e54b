"""Which addresses are the public internet's, for whatever connects to a url that somebody else may have chosen."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Addresses that Python, or some version of it, calls global and that reach a cloud's insides all the same, or nobody:
# Azure's host agent; the IETF's protocol blocks, where Oracle keeps its metadata, with Teredo in IPv6's; the former
# relays of 6to4; IPv6's second block for documentation.
_INSIDE = tuple(
    ipaddress.ip_network(each)
    for each in ("168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all of IPv6 that has ever been handed out for the public internet
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


class SsrfGuard:
    """Refuses connections to anything but the public internet and the networks that were allowed."""

    def __init__(self, allowed: Iterable[IpNetwork]) -> None:
        self._allowed = tuple(allowed)

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one resolved address. Raises PermissionError.

        This is the last step before the connection, so no later answer of a name server can get around it.
        """
        family, kind, protocol, _, address = info
        self.check(ipaddress.ip_address(address[0].partition("%")[0]))
        return socket.socket(family, kind, protocol)

    def check(self, host: IpAddress) -> None:
        """Raise PermissionError where an address is inside and not allowed."""
        if is_inside(host) and not self._allows(host):
            raise PermissionError(
                errno.EACCES, f"{host} is not a public address: list it in allow_cidrs if it is meant"
            )

    def _allows(self, host: IpAddress) -> bool:
        plain = _unwrapped(host)
        return any(plain in network or host in network for network in self._allowed)


def is_inside(host: IpAddress) -> bool:
    """Tell whether an address is anything but one of the public internet."""
    plain = _unwrapped(host)
    if not plain.is_global or plain.is_multicast or plain.is_reserved:
        return True
    if isinstance(plain, ipaddress.IPv6Address) and plain not in _UNICAST:
        return True
    return any(plain in network for network in _INSIDE)


def written_address(host: str) -> IpAddress | None:
    """Read an address in any form that a resolver takes for one (2130706433, 127.1, 0x7f.1); None: it is a name."""
    plain = host.removesuffix(".")
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(plain))
    except (OSError, UnicodeError):
        return None


def _unwrapped(host: IpAddress) -> IpAddress:
    """Look through the IPv6 forms that lead to an IPv4 address."""
    if isinstance(host, ipaddress.IPv4Address):
        return host
    if host in _NAT64 or (int(host) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return ipaddress.IPv4Address(int(host) & 0xFFFF_FFFF)
    return host.ipv4_mapped or host.sixtofour or host
