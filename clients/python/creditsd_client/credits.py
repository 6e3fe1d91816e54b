"""The client: where creditsd answers, and who asks."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from creditsd_client.errors import (
    ForbiddenError,
    NotFoundError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
)
from creditsd_client.stream import FAILURES, Stream, said
from creditsd_client.total import Total, decode

TokenProvider = Callable[[], str | Awaitable[str]]

_REFUSALS: Mapping[int, type[RefusedError]] = {401: UnauthorizedError, 403: ForbiddenError, 404: NotFoundError}
_STREAM = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_PASSING = (408, 425, 429)  # beside 5xx: what another try may find otherwise


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
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._token = token
        self._session = session
        self._own_session = session is None
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

    async def read(self, user_id: str | None = None) -> Total:
        """Read one total, once. Raises UnavailableError or RefusedError; nothing is tried again."""
        try:
            response = await self._get(self._path(user_id, "credits"), {}, self._reading)
            async with response:
                answer = decode(await response.read())
        except FAILURES as error:
            raise UnavailableError(f"{self._url} does not answer: {said(error)}") from None
        return Total.parse(answer.get("data") if isinstance(answer, dict) else None)

    def stream(self, user_id: str | None = None) -> Stream:
        """Follow one user. `async with` it, or close it, when you stop before its end."""
        path = self._path(user_id, "credits/stream")

        async def open_(known: Mapping[str, str]) -> aiohttp.ClientResponse:
            return await self._get(path, {**_STREAM, **known}, self._streaming)

        renewable = self._token is not None and not isinstance(self._token, str)
        stream = Stream(open_, first_pause_seconds=self._retry_seconds, renewable=renewable)
        self._streams = [*(each for each in self._streams if each.state != "closed"), stream]
        return stream

    async def close(self) -> None:
        """End every stream, and the connections."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()
        if self._own_session and self._session is not None:
            await self._session.close()
            self._session = None

    def _path(self, user_id: str | None, what: str) -> URL:
        if (user_id is None) != (self._token is not None):
            raise ValueError("with api_key say whose total; with token it is the token's own user")
        whose = "me" if user_id is None else f"users/{quote(user_id, safe='')}"
        return URL(f"{self._url}/v1/{whose}/{what}", encoded=True)

    async def _get(self, url: URL, headers: Mapping[str, str], limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        """Ask, and return the answer if it is 200. Raises UnavailableError, RefusedError, or aiohttp's own."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        secret = await self._secret()
        response = await self._session.get(
            url, headers={"Authorization": f"Bearer {secret}", **headers}, timeout=limits
        )
        if response.status == 200:
            return response
        async with response:
            raise await _refused(response)

    async def _secret(self) -> str:
        if self._api_key is not None:
            return self._api_key
        if isinstance(self._token, str):
            return self._token
        assert self._token is not None
        given = self._token()
        return await given if inspect.isawaitable(given) else given


async def _refused(response: aiohttp.ClientResponse) -> RefusedError | UnavailableError:
    status, said = response.status, _reason(await response.content.read(4096))
    line = f"{response.url.origin()} answers {status}" + (f": {said}" if said else "")
    if status >= 500 or status in _PASSING:
        after = response.headers.get("Retry-After", "")
        return UnavailableError(line, float(after) if after.isascii() and after.isdecimal() else None)
    return _REFUSALS.get(status, RefusedError)(line, status)


def _reason(body: bytes) -> str:
    try:
        answer: Any = decode(body)
    except UnavailableError:
        return ""  # some proxy's page
    return str(answer.get("error") or "")[:200] if isinstance(answer, dict) else ""
