"""Posts a batch of totals to one endpoint, many users at once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace

import aiohttp
import structlog
import yarl

from creditsd.brokers import http
from creditsd.brokers.connection_loss import loss_named
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.events import Event
from creditsd.domain.total import Total
from creditsd.sinks import Rejection, SinkBusy, SinkDisabled, SinkRefusing
from creditsd.sinks.webhook import signing
from creditsd.sinks.webhook.answers import ARRIVED, NO_ANSWER, Outcome, judged
from creditsd.sinks.webhook.attempt import Attempt
from creditsd.sinks.webhook.message import Message, MessageWriter
from creditsd.sinks.webhook.options import Options
from creditsd.sinks.webhook.pace import Pace
from creditsd.sinks.webhook.signing import Signer
from creditsd.sinks.webhook.ssrf_guard import SsrfGuard

log = structlog.get_logger()

MAX_BATCH = 1024


class WebhookSink:
    """Delivers to one endpoint. A total may arrive twice or late: `version` and `webhook-id` tell."""

    max_batch = MAX_BATCH
    untried = "nothing connects before the first delivery"

    def __init__(
        self, name: str, url: yarl.URL, signers: Sequence[Signer], options: Options, trust: ssl.SSLContext | None
    ) -> None:
        self._name = name
        self._url = url
        self._label = f"sink {name}: {url.host}:{url.port}"
        self._signers = signers
        self._messages = MessageWriter(name, frozenset(options.events), signers)
        self._options = options
        self.events = options.events
        self.disable_after_seconds = options.disable_after_seconds
        self._trust = trust
        self._proxy = yarl.URL(options.proxy) if options.proxy else None
        keys = [signing.bare(secret) for secret in options.signed_with]
        passwords = (url.password, self._proxy.password if self._proxy else None)
        self._secrets = [each for each in (*passwords, *keys) if each]
        self._pace = Pace(options.concurrency)
        self._session: aiohttp.ClientSession | None = None

    @property
    def doubts(self) -> Sequence[str]:
        """Say whether a secret is shorter than the specification asks for."""
        short = f"a secret is short enough to be guessed: let it be {signing.SECRET_BYTES} random bytes or more"
        return [short] if any(each.weak for each in self._signers) else []

    async def open(self) -> None:
        """Make the connection pool; nothing connects before the first delivery."""
        await self.close()
        options = self._options
        connector = aiohttp.TCPConnector(
            limit=options.concurrency,
            # Behind a proxy there is one address we ever connect to, and it was chosen by whoever runs us.
            socket_factory=None if self._proxy else SsrfGuard(options.allow_cidrs).socket,
            ssl=self._trust or True,
        )
        # The time-out of the whole is our own, in _post: the client's costs a sixth of all a request costs.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=options.connect_timeout_seconds)
        self._session = http.session(connector, timeout)
        for each in self._signers:
            if each.public_key is not None:
                log.info("webhook.signed_by", sink=self._name, public_key=each.public_key)

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """POST what is owed of each total: of many users at once, of one user one event after the other.

        The first answer that asks for patience ends the batch, and so do refusals of many users in a row: raises
        SinkBusy or SinkRefusing, which say how many of it are through.
        Raises SinkDisabled when the endpoint is gone for good.
        """
        if self._session is None:
            raise SinkUnavailable(f"{self._label}: is not open")
        at_once = self._pace.requests_at_once(len(totals))
        attempt = Attempt(iter(totals), self._messages.write, self._pace.patience(at_once))
        # The tasks end with this call, so the daemon's own group still is the only thing that lasts.
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._post_in_turn(self._session, attempt))
        self._pace.learn(attempt)
        return self._judge(totals, attempt)

    async def held(self, user_id: str) -> int | None:  # noqa: ARG002  the protocol's signature
        """Return None: an endpoint cannot be queried."""
        return None

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most."""
        session, self._session = self._session, None
        await http.close(session)

    async def _post_in_turn(self, session: aiohttp.ClientSession, attempt: Attempt) -> None:
        """POST one user after the other, beside others that do the same."""
        while messages := attempt.next():
            outcome = await self._post_all(session, messages, attempt)
            attempt.note(messages[0].total, outcome)

    async def _post_all(self, session: aiohttp.ClientSession, messages: Sequence[Message], attempt: Attempt) -> Outcome:
        """POST one user's until one does not arrive, or nothing more is to be sent."""
        accepted: list[Event] = []
        for each in messages:
            if accepted and attempt.failed is not None and attempt.over:
                outcome = replace(attempt.failed, kind="unavailable")
            else:
                outcome = await self._post(session, self._messages.fresh(each))
            if outcome.kind != "arrived":
                return replace(outcome, accepted=tuple(accepted))
            accepted.append(each.event)
        return ARRIVED

    async def _post(self, session: aiohttp.ClientSession, message: Message) -> Outcome:
        try:
            with loss_named():
                async with (
                    asyncio.timeout(self._options.timeout_seconds),
                    session.post(
                        self._url, data=message.body, headers=message.headers, allow_redirects=False, proxy=self._proxy
                    ) as response,
                ):
                    return await judged(response, self._secrets)
        except TimeoutError:
            return NO_ANSWER
        except http.FAILURES as error:
            return Outcome("unavailable", http.failure(error, self._secrets))

    def _judge(self, totals: Sequence[Total], attempt: Attempt) -> Sequence[Rejection]:
        """Return who was refused. Raises SinkBusy or SinkDisabled where it is the endpoint that took nothing more."""
        refused = attempt.rejections(totals)
        failed = attempt.failed
        if failed is None:
            if attempt.refusing:
                said = f"{self._label}: refuses everyone by now, e.g. {refused[-1].reason}"
                raise SinkRefusing(said, through=attempt.begun, refused=refused)
            return refused
        if failed.kind == "gone":
            raise SinkDisabled(f"{self._label}: {failed.reason}")
        pause = attempt.pause_seconds()
        if not attempt.answered:
            raise SinkBusy(f"{self._label}: {failed.reason}", pause)
        if attempt.begun == len(totals) and pause is None:
            return refused
        raise SinkBusy(f"{self._label}: {failed.reason}", pause, through=attempt.begun, refused=refused)
