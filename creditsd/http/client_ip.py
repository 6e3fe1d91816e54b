"""Resolves a client's address: X-Forwarded-For counts where it comes from a trusted proxy, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

IpAddress = IPv4Address | IPv6Address


class TrustedProxies:
    """The networks of our own proxies, whose X-Forwarded-For is believed."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(each) for each in networks]

    def client(self, request: web.Request) -> str:
        """Return the client's address: the last hop that is no trusted proxy; of IPv6 its /64, which one person has."""
        hops = [each.strip() for line in request.headers.getall("X-Forwarded-For", []) for each in line.split(",")]
        name = request.remote or ""
        address = _address(name)
        while hops and address is not None and self._trusts(address):
            name = hops.pop()
            address = _address(name)
        if address is None:
            return "unknown"
        return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> IpAddress | None:
    """Parse an address, an IPv4-mapped IPv6 one as IPv4; None if it is not one."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
