"""Redis and Valkey: subscribes to the channels the sink publishes on, and reads the keys it stored."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from creditsd.brokers import redis as broker
from creditsd.brokers.closing import bounded
from creditsd.brokers.connection_loss import loss_named
from creditsd.domain.errors import SinkUnavailable
from creditsd.gateway.sources import NAME

MAX_BATCH = 500
_RIGHTS = "+get +mget +ping +subscribe +unsubscribe on the keys and channels"


class Options(broker.RedisOptions):
    """What can be set beside the url."""

    prefix: str = "credits:"


class RedisSource:
    """One connection in subscribe mode, and a pool that reads keys.

    The line is RESP2, in which a connection that listens can do nothing else. Its answers come in the order of what
    was asked, so the answer to a PING says that the subscriptions before it hold.
    """

    max_batch = MAX_BATCH

    def __init__(self, server: broker.RedisBroker, options: Options) -> None:
        self._server = server
        self._prefix = options.prefix.encode()
        self._timeout_seconds = options.timeout_seconds
        self._line: Any = None
        self._numbers = itertools.count()
        self._asked: dict[bytes, asyncio.Future[None]] = {}
        self._silent = False

    async def open(self) -> None:
        """Connect the subscriber; in a cluster to any node, since each receives what is published at any."""
        await self._hang_up()
        self._asked.clear()
        self._silent = False
        try:
            if self._server.cluster:
                await self._server.client.initialize()
                node = self._server.client.get_random_node()
                self._line = node.connection_class(**node.connection_kwargs)
            else:
                self._line = self._server.client.connection_pool.make_connection()
            # Writing would use wait_for, which in Python 3.11 can lose a cancellation. `heard` finds out who hangs.
            self._line.socket_timeout = None
            with loss_named():
                await self._line.connect()
        except broker.FAILURES as error:
            raise await self._failed(error) from None

    async def subscribe(self, user_ids: Sequence[str]) -> None:
        """Subscribe to all channels at once, and wait for the confirmation."""
        await self._say(b"SUBSCRIBE", user_ids)

    async def unsubscribe(self, user_ids: Sequence[str]) -> None:
        """Unsubscribe from all channels at once, and wait for the confirmation."""
        await self._say(b"UNSUBSCRIBE", user_ids)

    async def heard(self) -> Sequence[tuple[str, bytes]]:
        """Read one message; ping a silent connection, and give it up if it stays silent."""
        try:
            with loss_named():
                reply = await self._line.read_response(timeout=self._timeout_seconds)
            if reply is None and not self._silent:
                await self._send((b"PING", b"alive"))
        except broker.FAILURES as error:
            raise await self._failed(error) from None
        if reply is None and self._silent:
            raise await self._failed(TimeoutError())
        self._silent = reply is None
        match reply:
            case [b"message" | "message", channel, document]:
                return [(_bytes(channel)[len(self._prefix) :].decode(), _bytes(document))]
            case [b"pong" | "pong", word] | (bytes() | str() as word):  # the latter where nothing is subscribed
                self._answered(_bytes(word))
        return []

    async def newest(self, user_ids: Sequence[str]) -> Sequence[bytes | None]:
        """Read the users' keys; one that holds no string holds nothing of ours."""
        keys = [self._prefix + each.encode() for each in user_ids]
        commands: list[tuple[Any, ...]] = [("GET", key) for key in keys] if self._server.cluster else [("MGET", *keys)]
        try:
            replies = await self._server.send(commands)
        except broker.FAILURES as error:
            raise await self._failed(error) from None
        found: list[Any] = replies if self._server.cluster else replies[0] if isinstance(replies[0], list) else replies
        for each in found:
            if isinstance(each, Exception) and not (isinstance(each, ResponseError) and "WRONGTYPE" in str(each)):
                raise await self._failed(each)
        return [None if each is None or isinstance(each, Exception) else _bytes(each) for each in found]

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most for a server that does not let go."""
        await self._hang_up()
        await self._server.close()

    async def _say(self, command: bytes, user_ids: Sequence[str]) -> None:
        word = b"%d" % next(self._numbers)
        answered = self._asked[word] = asyncio.get_running_loop().create_future()
        try:
            await self._send((command, *(self._prefix + each.encode() for each in user_ids)), (b"PING", word))
        except broker.FAILURES as error:
            raise await self._failed(error) from None
        await answered

    async def _send(self, *commands: tuple[bytes, ...]) -> None:
        if not self._line.is_connected:  # it would connect anew by itself, with nothing subscribed
            raise ConnectionError("the connection was lost")
        with loss_named():
            await self._line.send_packed_command(self._line.pack_commands(commands))

    def _answered(self, word: bytes) -> None:
        answered = self._asked.pop(word, None)
        if answered is not None and not answered.done():
            answered.set_result(None)

    async def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            async with bounded(*broker.FAILURES):
                await line.disconnect(nowait=True)

    async def _failed(self, error: Exception) -> SinkUnavailable:
        """Make the one line of an error; a cluster's slots are looked up again next time."""
        if self._server.cluster:
            await self._server.close()
        return SinkUnavailable(f"{NAME}: {self._server.explain(error, _RIGHTS)}")


def _bytes(text: bytes | str) -> bytes:
    """Undo decode_responses, which a url may ask for."""
    return text.encode() if isinstance(text, str) else text


def create(url: str, options: Options) -> RedisSource:
    """Make the source for a url as the sink takes it. Raises ConfigError."""
    return RedisSource(broker.reach(NAME, url, options), options)
