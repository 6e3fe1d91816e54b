"""Who asks, by address: behind our own proxies it is what they say, and nobody else is believed."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

IpAddress = IPv4Address | IPv6Address


class TrustedProxies:
    """Whom to believe about who asks: the addresses of our own proxies."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(each) for each in networks]

    def client(self, request: web.Request) -> str:
        """Name the client: the last hop that is none of our proxies; of IPv6 the network, which one person has."""
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
    """Read an address, an IPv4 one inside an IPv6 one as itself; None for what is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
