"""The client: where creditsd answers, and who asks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from creditsd_client.errors import (
    ClosedError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
)
from creditsd_client.stream import FAILURES, Stream, said
from creditsd_client.total import Total, data_of, decode

TokenProvider = Callable[[], str | Awaitable[str]]

_REFUSALS: Mapping[int, type[RefusedError]] = {401: UnauthorizedError, 403: ForbiddenError, 404: NotFoundError}
_STREAM = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_PASSING = (408, 425, 429)  # beside 5xx: what another try may find otherwise
_MANY_TRIES = 10  # of one read among many, where the server asks for slower ones


class Credits:
    """Reads totals from a creditsd, or from a `creditsd serve`.

    With `api_key` it is a server that may read everyone; with `token`, a user's JWT or a function that returns one
    (called for every connection, so that a fresh one is used), it reads that user alone and needs no user id.

    What that function raises ends a stream, but for UnavailableError, which is waited for. A connection that is silent
    for `silence_seconds`, heartbeats included, counts as lost. A `session` of yours is used as it is, and not closed.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        token: str | TokenProvider | None = None,
        session: aiohttp.ClientSession | None = None,
        connect_seconds: float = 10.0,
        silence_seconds: float = 60.0,
        retry_seconds: float = 1.0,
    ) -> None:
        if (api_key is None) == (token is None):
            raise ValueError("give either api_key or token")
        self._url = _address(url)
        self._api_key = api_key
        self._token = token
        self._session = session
        self._own_session = session is None
        self._closed = False
        self._streams: list[Stream] = []
        self._retry_seconds = retry_seconds
        self._reading = aiohttp.ClientTimeout(total=connect_seconds)
        self._streaming = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=silence_seconds, connect=None
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def read(self, user_id: str | None = None, *, min_version: int | None = None) -> Total:
        """Read one total, once. Raises UnavailableError or RefusedError; nothing is tried again.

        With `min_version` the server waits a few seconds for a total of that version or newer, and gives the newest it
        has then.
        """
        wanted = {} if min_version is None else {"min_version": min_version}
        try:
            response = await self._get(self._path(user_id, "credits").with_query(wanted), {}, self._reading)
            async with response:
                body = await response.read()
        except FAILURES as error:
            raise UnavailableError(f"{self._url} does not answer: {said(error)}") from None
        return Total.parse(data_of(body))

    async def read_many(self, user_ids: Iterable[str], *, at_once: int = 16) -> dict[str, Total]:
        """Read the totals of several users, `at_once` at a time. Returns them by the ids as given, in their order.

        Where the server asks for slower reads (429) it waits as long as that says. Any other failure ends it, and is
        what `read` raises: all totals or none. One request a user; the daemon asks its database for many together.
        """
        if at_once < 1:
            raise ValueError("at_once must be 1 or more")
        found: dict[str, Total | None] = dict.fromkeys(user_ids)
        left = iter(list(found))

        async def read_some() -> None:
            for user_id in left:
                found[user_id] = await self._read_patiently(user_id)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(at_once, len(found))):
                    group.create_task(read_some())
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return {user_id: total for user_id, total in found.items() if total is not None}

    async def _read_patiently(self, user_id: str) -> Total:
        for _ in range(_MANY_TRIES - 1):
            try:
                return await self.read(user_id)
            except TooManyRequestsError as error:
                await asyncio.sleep(error.retry_after_seconds or 1.0)
        return await self.read(user_id)

    def stream(self, user_id: str | None = None) -> Stream:
        """Follow one user. `async with` it, or close it, when you stop before its end."""
        self._refuse_if_closed()
        path = self._path(user_id, "credits/stream")

        async def open_(known: Mapping[str, str]) -> aiohttp.ClientResponse:
            return await self._get(path, {**_STREAM, **known}, self._streaming)

        renewable = self._token is not None and not isinstance(self._token, str)
        stream = Stream(open_, first_pause_seconds=self._retry_seconds, renewable=renewable)
        self._streams = [*(each for each in self._streams if each.state != "closed"), stream]
        return stream

    async def close(self) -> None:
        """End every stream, and the connections. For good: whoever asks this client again gets a ClosedError."""
        self._closed = True
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        if self._own_session and self._session is not None:
            await self._session.close()

    def _path(self, user_id: str | None, what: str) -> URL:
        if (user_id is None) != (self._token is not None):
            raise ValueError("with api_key say whose total; with token it is the token's own user")
        whose = "me" if user_id is None else f"users/{quote(user_id, safe='')}"
        return URL(f"{self._url}/v1/{whose}/{what}", encoded=True)

    async def _get(self, url: URL, headers: Mapping[str, str], limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Ask, and return the answer if it is 200. Raises ClientError, or aiohttp's own."""
        self._refuse_if_closed()
        secret = await self._secret()
        self._refuse_if_closed()
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        response = await self._session.get(
            url, headers={"Authorization": f"Bearer {secret}", **headers}, timeout=limits
        )
        if response.status == 200:
            return response
        async with response:
            raise await _refused(response)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ClosedError("this client is closed: make a new one")
        if self._session is not None and self._session.closed:
            raise ClosedError("the session that this client was given is closed")

    async def _secret(self) -> str:
        if self._api_key is not None:
            return self._api_key
        if isinstance(self._token, str):
            return self._token
        assert self._token is not None
        given = self._token()
        return await given if inspect.isawaitable(given) else given


def _address(url: str) -> str:
    """Return where creditsd answers, without a slash at its end. Raises ValueError for what is no such address."""
    try:
        parsed = URL(url)
        plain = parsed.user is None and parsed.password is None and not parsed.raw_query_string and not parsed.fragment
        right = parsed.scheme in ("http", "https") and bool(parsed.host) and plain
    except (ValueError, TypeError):
        right = False
    if not right:
        shown = str(url).rpartition("@")[2]  # what stands before it may be a secret
        raise ValueError(f"{shown!r} is no address of creditsd: say http:// or https://, a host, and no user or query")
    return url.rstrip("/")


async def _refused(response: aiohttp.ClientResponse) -> RefusedError | UnavailableError:
    status, said = response.status, _reason(await response.content.read(4096))
    line = f"{response.url.origin()} answers {status}" + (f": {said}" if said else "")
    if status >= 500 or status in _PASSING:
        after = response.headers.get("Retry-After", "")
        kind = TooManyRequestsError if status == 429 else UnavailableError
        return kind(line, float(after) if after.isascii() and after.isdecimal() else None)
    return _REFUSALS.get(status, RefusedError)(line, status)


def _reason(body: bytes) -> str:
    try:
        answer: Any = decode(body)
    except UnavailableError:
        return ""  # some proxy's page
    return str(answer.get("error") or "")[:200] if isinstance(answer, dict) else ""
