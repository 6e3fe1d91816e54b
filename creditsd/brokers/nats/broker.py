"""The servers of one url, and the stream or bucket there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import RawCredentials
from nats.js import JetStreamContext

from creditsd.brokers.closing import bounded
from creditsd.brokers.connection_loss import loss_named, named
from creditsd.brokers.nats.connection import NatsClient, NatsConnection
from creditsd.brokers.nats.failures import FAILURES, User, meaning
from creditsd.brokers.nats.options import NatsOptions
from creditsd.brokers.nats.subjects import SUBJECT_BYTES, encode_user
from creditsd.config.printable import one_line
from creditsd.domain.errors import CreditsdError


class NatsBroker:
    """Connects to the servers of one url when needed, and again after a loss; knows the stream (or bucket)."""

    def __init__(
        self,
        user: User,
        servers: Sequence[str],
        login: Mapping[str, str],
        tls: ssl.SSLContext | None,
        options: NatsOptions,
    ) -> None:
        self._user = user
        self._label = f"{user.name}: {','.join(servers)}"
        self._servers = [f"nats://{server}" for server in servers]
        self._login = login
        self._tls = tls
        self._options = options
        self._link: NatsConnection | None = None
        self._secrets = [each for each in (*login.values(), options.token, options.nkey, options.creds) if each]
        self.stream = f"KV_{options.bucket}" if options.bucket else options.stream
        self.prefix = f"$KV.{options.bucket}." if options.bucket else f"{options.subject}."

    def subject(self, user_id: str) -> str:
        """Name the subject of a user's totals."""
        return self.prefix + encode_user(user_id)

    async def connected(self, prepare: Callable[[JetStreamContext], Awaitable[None]] | None = None) -> NatsConnection:
        """Return the connection, a new one if it was lost, which `prepare` sees first. Trying again is the caller's."""
        if self._link is not None and not self._link.lost.done():
            return self._link
        await self.close()
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        client = NatsClient()
        self._link = NatsConnection(client, client.jetstream(timeout=self._options.timeout_seconds), lost)
        try:
            with loss_named():
                async with asyncio.timeout(self._options.connect_timeout_seconds):
                    await self._connect(client, lost)
                if prepare is not None:
                    await prepare(self._link.jetstream)
        except FAILURES as error:
            await self.close()
            if lost.done() and isinstance(error, TimeoutError):
                raise self._user.unavailable(f"{self._label}: {lost.result()}") from None
            raise self._unavailable(error) from None
        except BaseException:
            await self.close()
            raise
        return self._link

    async def last(self, link: NatsConnection, subject: str) -> tuple[int, bytes]:
        """Return sequence and payload of the subject's last message, 0 and nothing if there is none.

        Asked of the stream's leader: a direct get may be answered by a replica that is behind.
        """
        if len(subject) > SUBJECT_BYTES:
            return 0, b""
        try:
            message = await link.jetstream.get_last_msg(self.stream, subject)
        except nats.js.errors.NotFoundError as error:
            if error.err_code == 10037:  # no message found
                return 0, b""
            raise
        return message.seq or 0, message.data or b""

    async def together(self, link: NatsConnection, jobs: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Run coroutines concurrently; the first failure closes the connection and is raised."""
        work = asyncio.gather(*jobs, return_exceptions=True)
        done: set[asyncio.Future[Any]] = set()
        try:
            done, _ = await asyncio.wait((work, link.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if work not in done:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        if work not in done:
            await self.close()
            raise self._user.unavailable(f"{self._label}: {link.lost.result()}")
        outcomes = work.result()
        failure = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if failure is None:
            return outcomes
        failure = named(failure)
        if isinstance(failure, FAILURES):
            raise await self.failed(link, failure) from None
        await self.close()
        raise failure

    async def failed(self, link: NatsConnection, error: Exception) -> CreditsdError:
        """End the connection, and return the one line about it: what the server said before it ended, or the error."""
        told = link.lost.result() if link.lost.done() else None  # closing it would tell, too
        await self.close()
        return self._user.unavailable(f"{self._label}: {told}") if told else self._unavailable(error)

    async def close(self) -> None:
        """Close the connection, waiting 2 s at most for a server that does not let go."""
        link, self._link = self._link, None
        if link is not None:
            async with bounded(*FAILURES):
                await link.client.close()

    async def _connect(self, client: NatsClient, lost: asyncio.Future[str]) -> None:
        async def on_closed() -> None:
            if not lost.done():
                lost.set_result("the connection was lost: is the server up?")

        async def on_error(error: Exception) -> None:
            if "permissions violation" in str(error).lower() and not lost.done():
                rights = self._user.rights.format(subjects=f"{self.prefix}*")
                lost.set_result(f"its user lacks rights ({self._said(error)}): {rights}")

        await client.connect(
            self._servers,
            name="creditsd",
            error_cb=on_error,
            closed_cb=on_closed,
            allow_reconnect=False,  # connecting again is ours: a lost connection must be told, not waited for
            max_reconnect_attempts=1,  # of each server while connecting; 0 would mean for ever
            reconnect_time_wait=0,
            connect_timeout=max(1, round(self._options.connect_timeout_seconds)),
            tls=self._tls,
            **self._credentials(client),
        )
        self._insist_on_tls(client)

    def _credentials(self, client: NatsClient) -> dict[str, Any]:
        """Give secrets as functions, which the client calls once it knows whether the line is encrypted."""

        def reveal(secret: str) -> str:
            self._insist_on_tls(client)
            return secret

        options = self._options
        login = {key: partial(reveal, value) for key, value in self._login.items()}
        given = {
            "token": partial(reveal, options.token) if options.token else None,
            "user_credentials": RawCredentials(options.creds) if options.creds else None,
            "nkeys_seed_str": options.nkey.strip() or None,
        }
        return given | login

    def _insist_on_tls(self, client: NatsClient) -> None:
        """Refuse a line in the clear for nats+tls: the client encrypts only if the server asks for it."""
        if self._tls and not client.offers_tls:
            raise nats.errors.SecureConnRequiredError

    def _unavailable(self, error: Exception) -> CreditsdError:
        what = meaning(error, self._said(error), self._user, stream=self.stream, subjects=f"{self.prefix}*")
        return self._user.unavailable(f"{self._label}: {what}")

    def _said(self, error: Exception) -> str:
        return one_line(str(error), self._secrets)
