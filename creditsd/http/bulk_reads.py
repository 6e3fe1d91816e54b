"""Serves the totals of many users at once, to servers alone: `POST /v1/credits`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson
import structlog
from aiohttp import web

from creditsd.domain.errors import InputError, RowsError
from creditsd.domain.total import encode
from creditsd.http.auth import Auth, Caller
from creditsd.http.errors import RequestRefused, answer
from creditsd.http.hub import Current, Hub

log = structlog.get_logger()

MOST_USERS = 1000
USERS_PER_REQUEST = 10
"""So many users of one answer count as one request: measured, what a read of one costs."""
MOST_AT_ONCE = 64
MOST_OF_ONE = 8
"""So many requests wait at once, and of one caller: they are answered one after the other, and others want a turn."""
RETRY_SECONDS = 1.0

_ASKED = f'say whose: {{"user_ids": ["…", …]}}, up to {MOST_USERS} of them'


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a request may take to send its body, and how long it may then wait for its answer."""

    body_seconds: float = 10.0
    answer_seconds: float = 10.0


class BulkReads:
    """Answers with the newest totals that are stored, in the order in which users were named."""

    def __init__(self, hub: Hub, auth: Auth, timings: Timings | None = None) -> None:
        self._hub = hub
        self._auth = auth
        self._timings = timings or Timings()
        self._waiting: Counter[str] = Counter()  # by caller

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the route."""
        return [web.post("/v1/credits", self._totals)]

    async def _totals(self, request: web.Request) -> web.Response:
        caller = await self._auth.server(request)
        user_ids = self._canonical(_asked(await self._body(request)))
        self._auth.count(caller, (len(user_ids) - 1) // USERS_PER_REQUEST)
        found = await self._found(caller, user_ids)
        unsummed = [each for each in found if isinstance(each, RowsError)]
        if unsummed:
            log.warning("live.some_unsummed", reason=str(unsummed[0]), users=len(unsummed))
        return answer(b"[" + b",".join(map(_told, user_ids, found)) + b"]")

    async def _found(self, caller: Caller, user_ids: Sequence[str]) -> Sequence[Current | RowsError]:
        """Read totals, in time and in turn, for somebody whom we still admit then. Raises RequestRefused where not."""
        if self._waiting[caller.name] >= MOST_OF_ONE:
            line = f"{MOST_OF_ONE} such requests of yours wait: send the next then"
            raise RequestRefused.later(429, line, RETRY_SECONDS)
        if self._waiting.total() >= MOST_AT_ONCE:
            raise RequestRefused.later(503, "too many ask for many users at once: try again", RETRY_SECONDS)
        self._waiting[caller.name] += 1
        try:
            async with asyncio.timeout(self._timings.answer_seconds):
                found = await self._hub.read_many(user_ids)
        except TimeoutError:
            line = "the totals were not found in time: try again, or ask for fewer users"
            raise RequestRefused.later(503, line, RETRY_SECONDS) from None
        finally:
            self._waiting[caller.name] -= 1
            if not self._waiting[caller.name]:
                del self._waiting[caller.name]
        if not self._auth.admits(caller):
            raise self._auth.taken_away()
        return found

    async def _body(self, request: web.Request) -> bytes:
        """Read the body. Raises RequestRefused where it does not arrive; aiohttp bounds its size."""
        try:
            async with asyncio.timeout(self._timings.body_seconds):
                return await request.read()
        except TimeoutError:
            raise RequestRefused(408, "the body did not arrive in time: send it with the request") from None

    def _canonical(self, user_ids: Sequence[str]) -> list[str]:
        """Return ids as they are stored. Raises RequestRefused for what cannot be one, and for one that comes twice."""
        places: dict[str, int] = {}
        for place, user_id in enumerate(user_ids):
            try:
                stored = self._hub.canonical(user_id)
            except InputError as error:
                raise RequestRefused(400, f"user_ids[{place}]: {error}") from None
            if stored in places:
                raise RequestRefused(
                    400, f"user_ids[{place}] is the user of user_ids[{places[stored]}]: name each once"
                )
            places[stored] = place
        return list(places)


def _told(user_id: str, found: Current | RowsError) -> bytes:
    """Return a total, or in its place what says of whom there is none."""
    if not isinstance(found, RowsError):
        return found[1]
    return encode({"user_id": user_id, "error": "this user's credits cannot be summed up: see creditsd's log"})


def _asked(body: bytes) -> Sequence[str]:
    """Parse whose totals are asked for. Raises RequestRefused with the one line that says what is wrong."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestRefused(400, f"the body is no JSON: {_ASKED}") from None
    match asked:
        case {"user_ids": list(user_ids), **others} if not others:
            pass
        case _:
            raise RequestRefused(400, _ASKED)
    if len(user_ids) > MOST_USERS:
        raise RequestRefused(400, f"user_ids names {len(user_ids)} users: ask for {MOST_USERS} at most")
    wrong = next((place for place, each in enumerate(user_ids) if not isinstance(each, str)), None)
    if wrong is not None:
        raise RequestRefused(400, f"user_ids[{wrong}] must be text, in quotes")
    return user_ids
