"""How often somebody may ask: a bucket each, refilled by time; memory is bounded whoever comes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

MOST_BUCKETS = 20_000  # then the one that was used the longest ago is forgotten, which is to say: full again
BURST_SECONDS = 2.0  # so much of the rate may come at once

Address = IPv4Address | IPv6Address


class Buckets:
    """A bucket of tokens for each name; a rate of 0 limits nobody."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second * BURST_SECONDS)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Take a token: 0 where there was one, else the seconds until there is."""
        if self._per_second == 0:
            return 0.0
        now = time.monotonic()
        tokens, since = self._buckets.pop(name, (self._most, now))
        tokens = min(self._most, tokens + (now - since) * self._per_second)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._per_second
        self._buckets[name] = (tokens if wait else tokens - 1, now)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait


class Proxies:
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

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _address(text: str) -> Address | None:
    """Read an address, an IPv4 one inside an IPv6 one as itself; None for what is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
