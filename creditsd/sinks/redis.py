"""Redis and Valkey, one server, Sentinel or cluster: a key per user that only a higher version replaces."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import PositiveInt
from redis.exceptions import NoScriptError

from creditsd.brokers import redis as broker
from creditsd.config.printable import one_line
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.total import Total, encode
from creditsd.sinks import Rejection

MAX_BATCH = 2000

# Measured with Valkey on one machine, totals a second: one script call each 26 000 to 38 000, calls of 128
# totals 79 000, of 1 000 totals 99 000. A call blocks the server for everyone, about a millisecond at 128.
_TOTALS_PER_CALL = 128
_PAGE_ENTRIES = 1000

_SCRIPT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_FOREIGN = -1  # what the script answers for a key of another type

# The same order the script relies on; see there why the first match is the true one.
_VERSION = re.compile(rb'{"user_id":".*?","version":(\d+)', re.DOTALL)

_RIGHTS = "+evalsha +script|load +get +set +publish (+xadd) on the keys and channels"


class Options(broker.RedisOptions):
    """What can be set beside the url."""

    prefix: str = "credits:"
    ttl_seconds: PositiveInt | None = None
    stream: str = ""
    stream_maxlen: PositiveInt = 10_000


class RedisSink:
    """Stores each total at `credits:{user_id}`, and publishes it on the channel of that name."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, server: broker.RedisBroker, options: Options) -> None:
        self._name = name
        self._server = server
        self._options = options
        # The keys of a cluster live in different slots, and a call reaches one slot only.
        self._totals_per_call = 1 if server.cluster else _TOTALS_PER_CALL

    async def open(self) -> None:
        """Connect and load the script, which also proves the password."""
        try:
            await self._server.load(_SCRIPT)
        except broker.FAILURES as error:
            raise await self._failed(error) from None

    async def own(self, owner: str) -> None:
        """Name our connection after the installation. Raises SinkUnavailable where another one's writes at our prefix.

        Not in a cluster, where each node knows its own connections alone, nor where our user may not ask.
        """
        if self._server.cluster:
            return
        name = _Named(owner, self._options.prefix)
        _, clients = await self._send([("CLIENT", "SETNAME", str(name)), ("CLIENT", "LIST")])
        if isinstance(clients, Exception):
            return
        other = name.other_in(_bytes(clients).decode(errors="replace"))
        if other is not None:
            await self._send([("CLIENT", "SETNAME", "")])  # or we would refuse each other
            reason = (
                f"the installation {other} writes at the prefix {self._options.prefix!r} already, and this is {owner}: "
                "give this sink another prefix"
            )
            raise SinkUnavailable(f"sink {self._name}: {one_line(reason)}")

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store and publish each total that is newer than the one held, in one round trip.

        Refused is only a total whose key holds something that is not a string: replacing another
        program's list or hash would destroy it.
        """
        if self._options.stream and self._server.cluster:
            await self._append(totals)
        step = self._totals_per_call
        chunks = [totals[i : i + step] for i in range(0, len(totals), step)]
        replies = await self._call(chunks)
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
        await self._server.close()

    async def _call(self, chunks: Sequence[Sequence[Total]]) -> list[Any]:
        if self._server.cluster:
            return await self._send([self._written(chunk) for chunk in chunks])
        try:
            return await self._server.send_on(map(self._written, chunks))
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
        if self._server.cluster:
            await self.close()
        return SinkUnavailable(f"sink {self._name}: {self._server.explain(error, _RIGHTS)}")


class _Named(NamedTuple):
    """What a connection is named after: the installation that writes on it, and the prefix where."""

    owner: str
    prefix: str

    def __str__(self) -> str:
        return f"creditsd:{self.owner}:{quote(self.prefix, safe='')}"  # a name takes no spaces

    def other_in(self, clients: str) -> str | None:
        """Return another installation that a CLIENT LIST shows at the same prefix of the same database, or None."""
        found = [dict(field.partition("=")[::2] for field in line.split()) for line in clients.splitlines()]
        ours = {each["db"] for each in found if each.get("name") == str(self)}
        for each in found:
            head, _, rest = each.get("name", "").partition(":")
            owner, _, prefix = rest.partition(":")
            if (
                head == "creditsd"
                and prefix == quote(self.prefix, safe="")
                and owner != self.owner
                and each["db"] in ours
            ):
                return owner
        return None


def _version(json: bytes | str | None) -> int | None:
    found = _VERSION.match(_bytes(json or b""))
    return int(found[1]) if found else None


def _bytes(text: bytes | str) -> bytes:
    """Undo decode_responses, which a url may ask for."""
    return text.encode() if isinstance(text, str) else text


def create(name: str, url: str, options: Options) -> RedisSink:
    """Make the sink for a `redis:` url, `+cluster` or `+sentinel`; `rediss` is TLS. Raises ConfigError."""
    return RedisSink(name, broker.reach(f"sink {name}", url, options), options)
