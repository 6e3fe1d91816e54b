"""Resolves a client's address: what a header says counts where it comes from a trusted proxy, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_network

from aiohttp import web

from creditsd.http import forwarded
from creditsd.http.forwarded import IpAddress


class TrustedProxies:
    """The networks of our own proxies, and the one header of theirs that is believed: others may be a client's own."""

    def __init__(self, networks: Sequence[str], header: str = "X-Forwarded-For") -> None:
        self._networks = [ip_network(each) for each in networks]
        self._header = header
        self._hops = forwarded.HEADERS[header]

    def client(self, request: web.Request) -> str:
        """Return the client's address: the last hop that is no trusted proxy; of IPv6 its /64, which one person has."""
        found = forwarded.address(request.remote or "")
        hops = self._hops(",".join(request.headers.getall(self._header, [])))
        while found is not None and self._trusts(found):
            hop = next(hops, None)
            if hop is None:
                break
            found = forwarded.address(hop)
        if found is None:
            return "unknown"
        return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else str(found)

    def _trusts(self, address: IpAddress) -> bool:
        return any(address in network for network in self._networks)
