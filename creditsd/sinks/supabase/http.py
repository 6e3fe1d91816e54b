"""Broadcasts by Realtime's HTTP endpoint, which needs no right in the database."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
import yarl

from creditsd.brokers import http
from creditsd.brokers.connection_loss import loss_named
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total, encode
from creditsd.sinks import Rejection, SinkBusy
from creditsd.sinks.supabase.messages import EVENT, Refusal, by_halves
from creditsd.sinks.supabase.options import Options

MAX_BATCH = 500

_PATH = "realtime/v1/api/broadcast"

# Realtime refuses a request whole that holds more messages than a project may send in a second: 100 at least.
_MESSAGES = 100

# What it says of the messages and not of itself: a body it cannot read, one too large, a message not to its liking.
_ABOUT_MESSAGES = frozenset({400, 413, 422})
_TRY_LATER = frozenset({408, 429, 500, 502, 503, 504})

_MENDS = {
    401: "it refuses the key, or knows no such project: mend the option key, and the url",
    403: "it refuses the key: mend the option key",
    404: "there is no Realtime at this address: the url is supabase+https://PROJECT.supabase.co",
}


class ByHttp:
    """Posts to Realtime's endpoint, which answers 429 when a project sends too many messages."""

    max_batch = MAX_BATCH
    untried = "nothing connects before the first delivery"

    def __init__(self, name: str, url: yarl.URL, options: Options, trust: ssl.SSLContext | None) -> None:
        self._url = url / _PATH
        self._label = f"sink {name}: {url.host}:{url.port}"
        self._options = options
        self._trust = trust
        self._messages = _MESSAGES
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool; the endpoint cannot be asked anything without a message."""
        await self.close()
        options = self._options
        timeout = aiohttp.ClientTimeout(total=options.timeout_seconds, sock_connect=options.connect_timeout_seconds)
        connector = aiohttp.TCPConnector(ssl=self._trust or True)
        self._session = http.session(connector, timeout, {"apikey": options.key})

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Post the totals, some at once; half as many after a 429, until the project's limit lets them through."""
        refused: list[Rejection] = []
        step = self._messages
        for start in range(0, len(totals), step):
            part = totals[start : start + step]
            try:
                refused += await by_halves(self._post, part, await self._post(part))
            except SinkBusy as busy:
                raise SinkBusy(str(busy), busy.retry_after_seconds, through=start, refused=refused) from None
        self._messages = min(self._messages + 1, _MESSAGES)
        return refused

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: a broadcast is not kept."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        session, self._session = self._session, None
        await http.close(session)

    async def _post(self, totals: Sequence[Total]) -> Refusal | None:
        if self._session is None:
            raise SinkUnavailable(f"{self._label}: is not open")
        body = encode({"messages": [_message(self._options.topic + each.user_id, each) for each in totals]})
        try:
            with loss_named():
                async with self._session.post(self._url, data=body, allow_redirects=False) as response:
                    return await self._judged(response)
        except TimeoutError:
            raise SinkBusy(f"{self._label}: no answer in time: is it up, and is the address right?") from None
        except http.FAILURES as error:
            raise SinkBusy(f"{self._label}: {http.failure(error, [self._options.key])}") from None

    async def _judged(self, response: aiohttp.ClientResponse) -> Refusal | None:
        """Judge by the status. Raises SinkBusy where a later try may pass, SinkUnavailable where a person is needed."""
        status, body = response.status, await http.read_little(response)
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return None
        said = http.said(status, body, [self._options.key])
        if status in _ABOUT_MESSAGES:
            return Refusal(said, status)
        if status in _TRY_LATER:
            if status == HTTPStatus.TOO_MANY_REQUESTS:
                self._messages = max(1, self._messages // 2)
            pause = http.retry_after_seconds(response.headers.get("Retry-After"))
            raise SinkBusy(f"{self._label}: {said}", pause)
        raise SinkUnavailable(f"{self._label}: {_MENDS.get(status, said)}")


def _message(topic: str, total: Total) -> dict[str, Any]:
    return {"topic": topic, "event": EVENT, "payload": orjson.Fragment(total.json()), "private": True}
