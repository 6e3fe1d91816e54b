"""Redis and Valkey, one server, Sentinel or cluster: a key per user that only a higher version replaces."""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from pydantic import PositiveInt
from redis.exceptions import NoScriptError

from creditsd.brokers import redis as broker
from creditsd.brokers.redis_neighbours import LIST, Neighbours, Occupied, Place
from creditsd.config.printable import one_line
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.domain.total import Total, encode
from creditsd.sinks import Rejection

log = structlog.get_logger()

MAX_BATCH = 2000

# Measured with Valkey on one machine, totals a second: one script call each 26 000 to 38 000, calls of 128
# totals 79 000, of 1 000 totals 99 000. A call blocks the server for everyone, about a millisecond at 128.
_TOTALS_PER_CALL = 128
_PAGE_ENTRIES = 1000

# A new connection looks at once, and gives way. This is for another one that was named later and may not look.
LOOK_SECONDS = 30.0

_SCRIPT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_FOREIGN = -1  # what the script answers for a key of another type

# The same order the script relies on; see there why the first match is the true one.
_VERSION = re.compile(rb'{"user_id":".*?","version":(\d+)', re.DOTALL)

_RIGHTS = "+evalsha +script|load +get +set +publish (+xadd) on the keys and channels"


class Options(broker.RedisOptions):
    """What can be set beside the url."""

    prefix: str = "credits:"
    """begins both key and channel"""
    ttl_seconds: PositiveInt | None = None
    """lets keys expire"""
    stream: str = ""
    """a stream that gets each stored total too (field `total`); it may hold a total twice"""
    stream_maxlen: PositiveInt = 10_000
    """its bound in entries, kept approximately"""


class RedisSink:
    """Stores each total at `credits:{user_id}`, and publishes it on the channel of that name."""

    max_batch = MAX_BATCH

    def __init__(
        self, name: str, server: broker.RedisBroker, options: Options, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._name = name
        self._server = server
        self._options = options
        self._owned = False
        self._doubts_told = False
        self._neighbours: Neighbours | None = None
        self._look_seconds = look_seconds
        self._looked_at = time.monotonic()
        self._begun: list[Total] | None = None  # what was sent before `deliver` was called
        # The keys of a cluster live in different slots, and a call reaches one slot only.
        self._totals_per_call = 1 if server.cluster else _TOTALS_PER_CALL

    async def open(self) -> None:
        """Connect and load the script, which also proves the password."""
        try:
            await self._server.load(_SCRIPT)
        except broker.FAILURES as error:
            raise await self._failed(error) from None
        if self._owned and not self._doubts_told:
            self._doubts_told = True
            for each in self.doubts:
                log.info("redis.neighbours_unseen", sink=self._name, reason=each)

    def own(self, owner: Owner) -> None:
        """Name each connection after the installation, and have it look for another one at our prefix or stream.

        Not in a cluster, where each node knows its own connections alone.
        """
        self._owned = True
        if not self._server.cluster:
            place = Place(self._options.prefix, self._options.stream)
            self._neighbours = Neighbours(owner, place, self._server.database)
            self._server.begin_with(self._neighbours.greeting, self._neighbours.greeted)

    @property
    def doubts(self) -> Sequence[str]:
        """Say whether another installation at our prefix would go unseen; known once it is owned and open."""
        if self._server.cluster:
            why = "each node of a cluster knows its own connections alone"
        elif self._neighbours is not None and self._neighbours.unseen:
            why = "our user needs +client|setname +client|list"
        else:
            return []
        return [f"whether another installation writes at the prefix {self._options.prefix!r} cannot be seen: {why}"]

    def begin(self, totals: Sequence[Total]) -> bool:
        """Send the call of a few totals, where the connection is there and nothing else is to be done before."""
        kept = self._server.kept
        if kept is None or self._begun is not None or len(totals) > self._totals_per_call or self._look_due:
            return False
        if kept.begin(self._written(totals)):
            self._begun = list(totals)
        return self._begun is not None

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store and publish each total that is newer than the one held, in one round trip.

        Refused is only a total whose key holds something that is not a string: replacing another
        program's list or hash would destroy it.
        """
        begun, self._begun = self._begun, None
        if begun is not None and begun != list(totals):
            begun = None  # whoever sends next finds an answer that nobody has read
        if begun is None:
            await self._look()
        if self._options.stream and self._server.cluster:
            await self._append(totals)
        step = self._totals_per_call
        chunks = [totals[i : i + step] for i in range(0, len(totals), step)]
        replies = await (self._call(chunks) if begun is None else self._answered())
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server restarted, or someone flushed its scripts
            await self.open()
            again = await self._call([chunks[i] for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return await self._rejections(chunks, replies)

    async def held(self, user_id: str) -> int | None:
        """Read the version at the user's key; None if there is none, or no total of ours."""
        return (await self.held_many([user_id]))[0]

    async def held_many(self, user_ids: Sequence[str]) -> Sequence[int | None]:
        """Read the versions at many users' keys, in one round trip."""
        replies = await self._send([("GET", self._options.prefix + user_id) for user_id in user_ids])
        for reply in replies:
            if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
                raise await self._failed(reply)
        return [None if isinstance(reply, Exception) else _version(reply) for reply in replies]

    async def forget(self, user_id: str) -> int:
        """Delete the user's key, unless it is of another program's type, and the user's entries in the stream."""
        key = self._options.prefix + user_id
        commands: list[tuple[Any, ...]] = [
            ("XDEL", self._options.stream, each) for each in await self._entries(user_id)
        ]
        (held,) = await self._send([("GET", key)])
        if not isinstance(held, Exception):
            commands.append(("DEL", key))
        elif "WRONGTYPE" not in str(held):
            raise await self._failed(held)
        replies = await self._send(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise await self._failed(reply)
        return sum(int(reply) for reply in replies)

    async def _entries(self, user_id: str) -> list[Any]:
        """Find the stream's entries of one user, a bounded page at a time."""
        if not self._options.stream:
            return []
        begins = b'{"user_id":' + encode(user_id) + b',"version":'
        found: list[Any] = []
        after = b"-"
        for _ in itertools.count():
            (page,) = await self._send([("XRANGE", self._options.stream, after, "+", "COUNT", _PAGE_ENTRIES)])
            if isinstance(page, Exception):
                raise await self._failed(page)
            found += [
                entry for entry, fields in page if any(_bytes(each).startswith(begins) for each in fields.values())
            ]
            if len(page) < _PAGE_ENTRIES:
                break
            after = b"(" + _bytes(page[-1][0])
        return found

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most for a server that does not let go."""
        self._begun = None
        await self._server.close()

    async def _look(self) -> None:
        """Look now and then whether another installation writes where we do. Raises SinkUnavailable."""
        if self._neighbours is None or not self._look_due:
            return
        self._looked_at = time.monotonic()
        (clients,) = await self._send([LIST])
        try:
            self._neighbours.judge(clients)
        except Occupied as occupied:
            raise await self._failed(occupied) from None

    @property
    def _look_due(self) -> bool:
        return self._neighbours is not None and time.monotonic() >= self._looked_at + self._look_seconds

    async def _answered(self) -> list[Any]:
        """Return the answer to what was begun."""
        assert self._server.kept is not None
        try:
            return [await self._server.kept.answer()]
        except broker.FAILURES as error:
            raise await self._failed(error) from None

    async def _call(self, chunks: Sequence[Sequence[Total]]) -> list[Any]:
        if self._server.kept is None:
            return await self._send([self._written(chunk) for chunk in chunks])
        try:
            return await self._server.kept.send(map(self._written, chunks))
        except broker.FAILURES as error:
            raise await self._failed(error) from None

    def _written(self, totals: Sequence[Total]) -> tuple[Any, ...]:
        options = self._options
        keys = [options.prefix + total.user_id for total in totals]
        bound = 0
        if options.stream and not self._server.cluster:
            keys.append(options.stream)
            bound = options.stream_maxlen
        documents = [total.json() for total in totals]
        return ("EVALSHA", _SHA, len(keys), *keys, options.ttl_seconds or 0, bound, *documents)

    async def _append(self, totals: Sequence[Total]) -> None:
        """Add what is newer to the stream of a cluster, before the keys tell that it was added.

        The stream lives in a slot of its own, so this cannot be one step with the key.
        """
        options = self._options
        held = await self.held_many([total.user_id for total in totals])
        newer = [total for total, version in zip(totals, held, strict=True) if total.version > (version or 0)]
        bounded = ("XADD", options.stream, "MAXLEN", "~", options.stream_maxlen, "*", "total")
        for reply in await self._send([(*bounded, total.json()) for total in newer]):
            if isinstance(reply, Exception):
                raise await self._failed(reply)

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send all commands at once; refusals are in the replies. Raises SinkUnavailable."""
        try:
            return await self._server.send(commands)
        except broker.FAILURES as error:
            raise await self._failed(error) from None

    async def _rejections(self, chunks: Sequence[Sequence[Total]], replies: Sequence[Any]) -> list[Rejection]:
        rejections: list[Rejection] = []
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, Exception):
                raise await self._failed(reply)
            for total, outcome in zip(chunk, reply, strict=True):
                if outcome == _FOREIGN:
                    reason = f"key {self._options.prefix}{total.user_id} is not a string: delete it"
                    rejections.append(Rejection(total, one_line(reason)))
        return rejections

    async def _failed(self, error: Exception) -> SinkUnavailable:
        """Make the one line of an error; a cluster's slots are looked up again next time."""
        if isinstance(error, Occupied):
            await self.close()  # or the names of our connections would hold the other one up
            return SinkUnavailable(f"sink {self._name}: {one_line(str(error))}")
        if self._server.cluster:
            await self.close()
        return SinkUnavailable(f"sink {self._name}: {self._server.explain(error, _RIGHTS)}")


def _version(json: bytes | str | None) -> int | None:
    found = _VERSION.match(_bytes(json or b""))
    return int(found[1]) if found else None


def _bytes(text: bytes | str) -> bytes:
    """Undo decode_responses, which a url may ask for."""
    return text.encode() if isinstance(text, str) else text


def create(name: str, url: str, options: Options) -> RedisSink:
    """Make the sink for a `redis:` url, `+cluster` or `+sentinel`; `rediss` is TLS. Raises ConfigError."""
    return RedisSink(name, broker.reach(f"sink {name}", url, options), options)
