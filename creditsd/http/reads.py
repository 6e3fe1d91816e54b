"""Serves the current total: `/v1/users/{id}/credits` and `/v1/me/credits`.

With `?min_version=N` the answer waits for a total of that version or newer: whoever wrote reads what they wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web

from creditsd.domain.total import NEWEST_VERSION
from creditsd.http.audience import Audience
from creditsd.http.auth import Auth, Caller
from creditsd.http.errors import RequestRefused, answer
from creditsd.http.hub import Current, Hub

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a read waits for a version: less than our clients wait for an answer, and anybody may ask for less."""

    wait_seconds: float = 4.0


class Reads:
    """Answers each read with the newest total that is stored."""

    def __init__(self, hub: Hub, audience: Audience, auth: Auth, timings: Timings | None = None) -> None:
        self._hub = hub
        self._audience = audience
        self._auth = auth
        self._timings = timings or Timings()

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [web.get("/v1/users/{id:[^/]+}/credits", self._of_user), web.get("/v1/me/credits", self._of_me)]

    async def _of_user(self, request: web.Request) -> web.Response:
        return await self._total(request, *await self._auth.reader(request, request.match_info["id"]))

    async def _of_me(self, request: web.Request) -> web.Response:
        return await self._total(request, *await self._auth.user(request))

    async def _total(self, request: web.Request, caller: Caller, user_id: str) -> web.Response:
        wanted = number(request, "min_version", NEWEST_VERSION)
        version, document = await self._hub.read(user_id)
        if wanted is not None and version < wanted:
            found = await self._awaited(request, caller, user_id, wanted)
            _, document = found if found is not None else await self._hub.read(user_id)
        return answer(document)

    async def _awaited(self, request: web.Request, caller: Caller, user_id: str, version: int) -> Current | None:
        """Wait for a total of a version or newer; None where it has not come in time, or the listener was closed.

        Raises RequestRefused: 401 where what the caller was let in by is taken away meanwhile.
        """
        seconds = min(self._timings.wait_seconds, _preferred_wait(request))
        if seconds == 0:
            return None
        async with self._audience.listening(request, "read", caller, user_id) as listener:
            listener.skip(version - 1)
            found = await listener.next(seconds)
        if listener.closed == "token_expired":
            raise self._auth.taken_away()
        return found


def number(request: web.Request, name: str, most: int) -> int | None:
    """Parse a number of the query; None without it. Raises RequestRefused for anything else, and for one too large."""
    texts = request.query.getall(name, [])
    if not texts:
        return None
    if len(texts) > 1 or not re.fullmatch(r"[0-9]{1,19}", texts[0]) or int(texts[0]) > most:
        raise RequestRefused(400, f"{name} must be one whole number, {most} at most")
    return int(texts[0])


def _preferred_wait(request: web.Request) -> float:
    """Parse `Prefer: wait=SECONDS` (RFC 7240); infinity without it. What cannot be read is no preference."""
    found = _WAIT.search(",".join(request.headers.getall("Prefer", [])))
    return float("inf") if found is None else float(found[1])
