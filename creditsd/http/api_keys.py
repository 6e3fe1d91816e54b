"""The API keys of servers: which one was sent, and how much each may ask."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog

from creditsd.config.http_settings import KEY_BYTES, HttpSettings
from creditsd.config.types import key_digest
from creditsd.http.rate_limit import RateLimit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Server:
    """Who has a key: a name for limits and logs, which is no secret, and a limit that no other server uses up."""

    name: str
    limit: RateLimit


class ApiKeys:
    """Finds the server that a key belongs to."""

    def __init__(self, settings: HttpSettings) -> None:
        self._servers: dict[bytes, Server] = {}
        self._numbers: dict[bytes, int] = {}
        self.follow(settings)

    def __bool__(self) -> bool:
        return bool(self._servers)

    def __contains__(self, digest: object) -> bool:
        return digest in self._servers

    def follow(self, settings: HttpSettings) -> None:
        """Take other keys and limits. What is left of a key's limit stays, and the number of one without a name."""
        before, self._servers = self._servers, {}
        for digest, name, per_second in self._configured(settings):
            limit = before[digest].limit if digest in before else RateLimit(per_second)
            limit.limit(per_second)
            self._servers[digest] = Server(name, limit)
        if {"http.api_keys", "http.servers"} & settings.short_secrets.keys():
            log.warning("access.key_found_short", hint=f"make http.api_keys of at least {KEY_BYTES} random bytes")

    def find(self, credential: str) -> bytes | None:
        """Return the digest of the key that was sent; None if it is nobody's."""
        digests = list(self._servers)
        number = matching(credential, digests)
        return None if number is None else digests[number - 1]

    def server(self, digest: bytes) -> Server:
        """Return whose key it is."""
        return self._servers[digest]

    def _configured(self, settings: HttpSettings) -> Iterator[tuple[bytes, str, float]]:
        usual = settings.requests_per_second_per_server
        for key in settings.api_keys:
            digest = key_digest(key)
            number = self._numbers.setdefault(digest, len(self._numbers) + 1)
            yield digest, f"key {number}", usual
        for each in settings.servers:
            own = each.requests_per_second
            yield key_digest(each.key), f"server {each.name}", usual if own is None else own


def matching(credential: str, digests: Sequence[bytes]) -> int | None:
    """Return which configured key was sent, counted from one; None if none was."""
    mine = hashlib.sha256(credential.encode("utf-8", "surrogateescape")).digest()
    # Each is compared, in constant time: how long it took tells neither which nor how much of it was right.
    found = [number for number, known in enumerate(digests, 1) if hmac.compare_digest(known, mine)]
    return found[0] if found else None
