"""Reads from the right, as they were added, the hops that proxies write: X-Forwarded-For, and Forwarded (RFC 7239)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

IpAddress = IPv4Address | IPv6Address

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token, as the RFC has it
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rf"[ \t]*({_WORD})=({_WORD}|{_QUOTED})[ \t]*")
_ELEMENT = re.compile(rf"[ \t]*|{_PAIR.pattern}(?:;(?:{_PAIR.pattern}|[ \t]*))*")
_PORT = r"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(rf"\[([^\[\]]+)\]{_PORT}|([^:\[\]]+){_PORT}|([^\[\]]+)")


def x_forwarded_for(header: str) -> Iterator[str]:
    """Yield the hops, the last one first."""
    for each in reversed(header.split(",")):
        if each.strip():
            yield each.strip()


def forwarded(header: str) -> Iterator[str]:
    """Yield the `for` of each element, the last one first; empty for an element that cannot be read, or has none.

    Read from the left, a quote that a client leaves open would swallow what the proxies have written behind it.
    """
    element = ""
    for part in reversed(header.split(",")):
        element = f"{part},{element}" if element else part
        if _ELEMENT.fullmatch(element):
            if element.strip():
                yield _for(element)
            element = ""
    if element:
        yield ""


HEADERS: Mapping[str, Callable[[str], Iterator[str]]] = {"X-Forwarded-For": x_forwarded_for, "Forwarded": forwarded}


def address(node: str) -> IpAddress | None:
    """Parse an address, in brackets or not, and with a port or not; an IPv4-mapped IPv6 one as IPv4; else None."""
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    try:
        found = ip_address((match[1] or match[2] or match[3]).partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _for(element: str) -> str:
    """Return the one `for` of an element."""
    found = [value for name, value in _PAIR.findall(element) if name.lower() == "for"]
    if len(found) != 1:
        return ""
    return re.sub(r"\\(.)", r"\1", found[0][1:-1]) if found[0].startswith('"') else found[0]
