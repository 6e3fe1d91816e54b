"""NATS: subscribes to the subjects the sink publishes on, and reads what JetStream stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from creditsd.brokers import nats as broker
from creditsd.brokers.connection_loss import loss_named
from creditsd.domain.errors import SinkUnavailable
from creditsd.gateway.sources import NAME, version_of

MAX_BATCH = 250  # each reading is a request of its own, all in flight at once
_RIGHTS = "subscribe on {subjects} and _INBOX.>, publish on $JS.API.STREAM.MSG.GET.>"
_NO_STREAM = "it has no such stream yet: a sink of `creditsd run` makes it when it first connects"


class Options(broker.NatsOptions):
    """What can be set beside the url."""


class NatsSource:
    """One connection with a core NATS subscription per user: what JetStream stores is published there too."""

    max_batch = MAX_BATCH

    def __init__(self, server: broker.NatsBroker, options: Options) -> None:
        self._server = server
        self._timeout_seconds = options.timeout_seconds
        self._link: broker.NatsConnection | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._come: dict[str, bytes] = {}
        self._wakeup = asyncio.Event()

    async def open(self) -> None:
        """Connect."""
        await self.close()
        self._link = await self._server.connected()
        self._link.lost.add_done_callback(lambda _: self._wakeup.set())

    async def subscribe(self, user_ids: Sequence[str]) -> None:
        """Subscribe to all, and flush. An id too long for a subject has no total."""
        async with self._line() as link:
            for user_id in user_ids:
                subject = self._server.subject(user_id)
                if len(subject) <= broker.SUBJECT_BYTES:
                    take = partial(self._take, user_id)
                    self._subscriptions[user_id] = await link.client.subscribe(subject, cb=take)
            await self._answer(link)

    async def unsubscribe(self, user_ids: Sequence[str]) -> None:
        """Unsubscribe."""
        async with self._line():
            for user_id in user_ids:
                subscription = self._subscriptions.pop(user_id, None)
                if subscription is not None:
                    await subscription.unsubscribe()
                self._come.pop(user_id, None)

    async def heard(self) -> Sequence[tuple[str, bytes]]:
        """Return the newest total of each user that has arrived; ping a silent connection."""
        async with self._line() as link:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._wakeup.wait()
            except TimeoutError:
                await self._answer(link)
            self._wakeup.clear()
            if link.lost.done():
                raise ConnectionError
        come, self._come = self._come, {}
        return list(come.items())

    async def newest(self, user_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Read the last message of each user's subject, all at once."""
        async with self._line() as link:
            jobs = [self._server.last(link, self._server.subject(each)) for each in user_ids]
            return [payload or None for _, payload in await self._server.together(link, jobs)]

    async def close(self) -> None:
        """Close the connection, waiting 2 s at most for a server that does not let go."""
        self._link = None
        self._subscriptions.clear()
        self._come.clear()
        await self._server.close()

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[broker.NatsConnection]:
        """Use the connection that `open` made; raise its failures as one line."""
        link = self._link
        if link is None:
            raise SinkUnavailable(f"{NAME}: not connected")
        try:
            with loss_named():
                yield link
        except broker.FAILURES as error:
            raise await self._server.failed(link, error) from None

    async def _answer(self, link: broker.NatsConnection) -> None:
        """Wait until the server has processed everything sent."""
        await link.client.flush(max(1, round(self._timeout_seconds)))

    async def _take(self, user_id: str, message: Msg) -> None:
        """Keep the newest until `heard` takes it; what an older daemon publishes late must not replace it."""
        before = self._come.get(user_id)
        if before is None or (version_of(user_id, message.data) or 0) > (version_of(user_id, before) or 0):
            self._come[user_id] = message.data
            self._wakeup.set()


def create(url: str, options: Options) -> NatsSource:
    """Make the source for a url as the sink takes it. Raises ConfigError."""
    user = broker.User(NAME, SinkUnavailable, _RIGHTS, _NO_STREAM)
    return NatsSource(broker.reach(user, url, options), options)
