"""The operator's page and its API under /v1/operator: everything behind the operator's key."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

import orjson
from aiohttp import web

from creditsd.config.http_settings import HttpSettings
from creditsd.config.redact import redact_dsn
from creditsd.config.types import key_digest
from creditsd.domain.errors import DatabaseUnavailable, InputError, SchemaError, SinkRejected, SinkUnavailable
from creditsd.domain.total import encode
from creditsd.http.api_keys import matching
from creditsd.http.auth import sent
from creditsd.http.errors import RequestRefused, answer
from creditsd.http.operator import PageBeside, Timings, Turn
from creditsd.http.operator.recent_totals import KEPT, RecentTotals, change
from creditsd.http.static_files import StaticFiles
from creditsd.metrics.counters import HttpMetrics

VIEWERS = 32
LISTED = 200
LONGEST_ID = 1024

_NO_KEY = "the operator's page opens with a key: set CREDITSD_HTTP__OPERATOR_KEYS"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OperatorData(Protocol):
    """The backend of the page's API."""

    async def state(self) -> bytes:
        """Return the state of everything as JSON."""

    async def explain(self, user_id: str) -> Mapping[str, Any]:
        """Say what a user has, and why."""

    async def failed_deliveries(self, sink: str | None, *, dead: bool, limit: int) -> Sequence[Any]:
        """List refused deliveries."""

    async def retry(self, sink: str, user_id: str | None) -> int:
        """Have refused deliveries tried again; return how many."""

    async def drop(self, sink: str, user_id: str | None) -> int:
        """Give refused deliveries up; return how many."""

    async def turn(self, sink: str, how: Turn) -> Mapping[str, Any]:
        """Pause, resume, test or replay a sink; say what came of it. A test raises SinkUnavailable or SinkRejected."""


class OperatorRoutes:
    """Serves the page to everyone, and its data to whoever sends an operator's key."""

    def __init__(
        self,
        settings: HttpSettings,
        metrics: HttpMetrics,
        data: OperatorData,
        recent: RecentTotals,
        timings: Timings | None = None,
        *,
        beside: PageBeside | None = None,
    ) -> None:
        self.follow(settings)
        self._metrics = metrics
        self._data = data
        self._recent = recent
        self._timings = timings or Timings()
        self._beside = beside
        self._viewers = 0
        self._closing = asyncio.Event()

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Return the routes of the page, where a key can open it, and of its API."""
        page = StaticFiles(Path(__file__).parents[1] / "page", at="/")
        api = "/v1/operator"
        return [
            *(web.get(each.path, self._where_keys(each.handler)) for each in page.routes()),
            web.get(f"{api}/state", self._behind_key(self._state)),
            web.get(f"{api}/stream", self._behind_key(self._stream), allow_head=False),
            web.get(f"{api}/explain/{{user_id:[^/]+}}", self._behind_key(self._explain)),
            web.get(f"{api}/deliveries", self._behind_key(self._list)),
            web.post(f"{api}/deliveries/retry", self._behind_key(self._retry)),
            web.post(f"{api}/deliveries/drop", self._behind_key(self._drop)),
            *(web.post(f"{api}/sinks/{how}", self._behind_key(self._turning(how))) for how in get_args(Turn)),
        ]

    def follow(self, settings: HttpSettings) -> None:
        """Take other keys; who looks on by one of before looks on no more."""
        self._digests = [key_digest(key) for key in settings.operator_keys]

    def close(self) -> None:
        """End every stream, and take no new one."""
        self._closing.set()
        self._recent.end_waits()

    def _where_keys(self, handler: Handler) -> Handler:
        """Answer 404 where no key could open the page."""

        async def found(request: web.Request) -> web.StreamResponse:
            if not self._digests:
                raise RequestRefused(404, _NO_KEY)
            return await handler(request)

        return found

    def _behind_key(self, handler: Handler) -> Handler:
        """Require an operator's key; who has one is also told why the database does not answer."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            self._check(request)
            try:
                return await handler(request)
            except (DatabaseUnavailable, SchemaError) as error:
                raise RequestRefused(503, redact_dsn(str(error))) from None

        return guarded

    def _check(self, request: web.Request) -> bytes:
        """Return which operator's key a request carries. Raises RequestRefused; API keys and tokens are none."""
        if not self._digests:
            self._metrics.auth_failures.labels("403").inc()
            raise RequestRefused(403, _NO_KEY)
        try:
            number = matching(sent(request), self._digests)
            if number is None:
                raise RequestRefused.unauthorized("this is not the operator's key", "invalid_token")
            return self._digests[number - 1]
        except RequestRefused as refused:
            self._metrics.auth_failures.labels(str(refused.status)).inc()
            raise

    async def _state(self, _: web.Request) -> web.Response:
        return answer(await self._data.state())

    async def _explain(self, request: web.Request) -> web.Response:
        return answer(encode(await self._data.explain(_user_id(request.match_info["user_id"]))))

    async def _list(self, request: web.Request) -> web.Response:
        sink = request.query.get("sink") or None
        found = await self._data.failed_deliveries(sink, dead=request.query.get("dead") == "true", limit=LISTED)
        return answer(encode({"limit": LISTED, "deliveries": [dataclasses.asdict(each) for each in found]}))

    async def _retry(self, request: web.Request) -> web.Response:
        sink, user_id = await _whose(request)
        return answer(encode({"deliveries": await self._data.retry(sink, user_id)}))

    async def _drop(self, request: web.Request) -> web.Response:
        sink, user_id = await _whose(request)
        return answer(encode({"deliveries": await self._data.drop(sink, user_id)}))

    def _turning(self, how: Turn) -> Handler:
        """Answer what came of it; 502 with the sink's words where a test of it fails."""

        async def turned(request: web.Request) -> web.Response:
            try:
                return answer(encode(await self._data.turn(await _which(request), how)))
            except (SinkRejected, SinkUnavailable) as error:
                raise RequestRefused(502, redact_dsn(str(error))) from None

        return turned

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Stream the state every second and totals as they are stored; a slow viewer gets the newest, never a queue."""
        key = self._check(request)
        if self._viewers >= VIEWERS:
            raise RequestRefused.later(503, f"{VIEWERS} look on already", 5)
        self._viewers += 1
        response = web.StreamResponse(headers=_STREAM)
        try:
            await response.prepare(request)
            await self._tell(response, key)
        except ConnectionError:
            pass  # the viewer has gone
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._viewers -= 1
        return response

    async def _tell(self, response: web.StreamResponse, key: bytes) -> None:
        seen = max(0, self._recent.count - KEPT)
        state_at = 0.0
        await self._write(response, "hello", encode({"beside": self._beside}))
        while not self._closing.is_set() and key in self._digests:
            if time.monotonic() >= state_at:
                state_at = time.monotonic() + self._timings.look_seconds
                await self._write(response, "state", await self._data.state())
            totals, missed = self._recent.since(seen)
            if totals:
                seen += missed + len(totals)
                news = {"missed": missed, "totals": [change(each) for each in totals]}
                await self._write(response, "changes", encode(news))
                await asyncio.sleep(self._timings.changes_seconds)
            await self._recent.wait(seen, max(0.0, state_at - time.monotonic()))
        await self._write(response, "close", b'{"reason":"shutdown"}')

    async def _write(self, response: web.StreamResponse, event: str, data: bytes) -> None:
        async with asyncio.timeout(self._timings.write_seconds):
            await response.write(b"event: " + event.encode() + b"\ndata: " + data + b"\n\n")


_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


async def _whose(request: web.Request) -> tuple[str, str | None]:
    """Parse which deliveries are meant: one user's, or with a null user everybody's to a sink."""
    match await _asked(request):
        case {"sink": str(sink), "user_id": None}:
            return sink, None
        case {"sink": str(sink), "user_id": str(user_id)}:
            return sink, _user_id(user_id)
    raise InputError('say whose: {"sink": "…", "user_id": "…"}, or null for everybody')


async def _which(request: web.Request) -> str:
    """Parse which sink is meant."""
    match await _asked(request):
        case {"sink": str(sink)}:
            return sink
    raise InputError('say which: {"sink": "…"}')


async def _asked(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return None


def _user_id(text: str) -> str:
    if "\0" in text or len(text) > LONGEST_ID:
        raise InputError(f"a user's id has at most {LONGEST_ID} characters, and no null")
    return text
