"""Reads the part of a url that says who logs in, and to which servers: `user:password@host:port,host:port`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Server:
    """A host, an IPv6 one without its brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who logs in, still percent-encoded, and to which servers."""

    userinfo: str
    servers: Sequence[Server]

    @property
    def login(self) -> tuple[str, str | None]:
        """User and password, decoded; the password is None where there is no colon."""
        user, colon, password = self.userinfo.partition(":")
        return unquote(user), unquote(password) if colon else None


def authority(text: str, default_port: int) -> Authority:
    """Split what stands between `://` and the path. Raises ValueError, which may quote the password."""
    userinfo, _, hosts = text.rpartition("@")
    return Authority(userinfo, [_server(each, default_port) for each in hosts.split(",")])


def listed(servers: Sequence[Server]) -> str:
    """Write servers as in a url, for people and for client libraries."""
    return ",".join(map(str, servers))


def _server(text: str, default_port: int) -> Server:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("not host:port")
    return Server(parts.hostname, parts.port or default_port)
