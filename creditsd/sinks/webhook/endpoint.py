"""One endpoint: the connections to it, and one request."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping

import aiohttp
import yarl

from creditsd.brokers import http
from creditsd.brokers.connection_loss import loss_named
from creditsd.sinks.webhook import headers, signing
from creditsd.sinks.webhook.answers import NO_ANSWER, Outcome, judged
from creditsd.sinks.webhook.message import Message
from creditsd.sinks.webhook.options import Options
from creditsd.sinks.webhook.ssrf_guard import SsrfGuard
from creditsd.sinks.webhook.time_limit import TimeLimit


class Endpoint:
    """Posts messages while it is open. Whatever goes wrong is an outcome, told without our secrets."""

    def __init__(self, url: yarl.URL, options: Options, trust: ssl.SSLContext | None) -> None:
        self.label = f"{url.host}:{url.port}"
        self._url = url
        self._options = options
        self._trust = trust
        self._proxy = yarl.URL(options.proxy) if options.proxy else None
        self.secrets = list(_secrets(url, self._proxy, options))
        """What nobody may get to see, though an answer may quote it."""
        self._traced_by: Mapping[str, str] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be posted to."""
        return self._session is not None

    def trace(self, headers: Mapping[str, str]) -> None:
        """Send these headers with every request from now on, but for those that the settings have, too."""
        theirs = {name.lower() for name in self._options.headers}
        self._traced_by = {name: value for name, value in headers.items() if name not in theirs}

    async def open(self) -> None:
        """Make the connection pool; nothing connects before the first request."""
        await self.close()
        options = self._options
        connector = aiohttp.TCPConnector(
            limit=options.concurrency,
            # Behind a proxy there is one address we ever connect to, and it was chosen by whoever runs us.
            socket_factory=None if self._proxy else SsrfGuard(options.allow_cidrs).socket,
            ssl=self._trust or True,
        )
        # The time-out of the whole is our own: the client's costs a sixth of all a request costs.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_seconds)
        self._time_limit = TimeLimit(options.timeout_seconds)
        self._session = http.session(connector, timeout)

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        session, self._session = self._session, None
        await http.close(session)

    async def post(self, message: Message) -> Outcome:
        """POST one message; judge the answer, or that there is none."""
        assert self._session is not None
        # Not the session's, for a proxy would be sent those in the clear, before there is a tunnel.
        more = self._options.headers or self._traced_by
        sent = {**message.headers, **self._traced_by, **self._options.headers} if more else message.headers
        try:
            with loss_named(), self._time_limit:
                async with self._session.post(
                    self._url, data=message.body, headers=sent, allow_redirects=False, proxy=self._proxy
                ) as response:
                    return await judged(response, self.secrets)
        except TimeoutError:
            return NO_ANSWER
        except http.FAILURES as error:
            return Outcome("unavailable", http.failure(error, self.secrets))


def _secrets(url: yarl.URL, proxy: yarl.URL | None, options: Options) -> Iterable[str]:
    """Yield what no error may quote, the longer ones first: one may be a part of another."""
    passwords = (url.password, proxy.password if proxy else None)
    keys = [signing.bare(secret) for secret in options.signed_with]
    found = [each for each in (*passwords, *keys) if each]
    return sorted([*found, *headers.secrets(options.headers.values())], key=len, reverse=True)
