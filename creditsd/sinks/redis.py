"""Redis and Valkey: a key per user that only a higher version replaces, and a message with it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from creditsd.errors import ConfigError, SinkUnavailable
from creditsd.model import Total, encode
from creditsd.sinks import Rejection

MAX_BATCH = 2000

# Measured with Valkey on one machine, totals a second: one script call each 26 000 to 38 000, calls of 128
# totals 79 000, of 1 000 totals 99 000. A call blocks the server for everyone, about a millisecond at 128.
_TOTALS_PER_CALL = 128
_PAGE_ENTRIES = 1000
_CLOSE_SECONDS = 2.0

_SCRIPT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_FOREIGN = -1  # what the script answers for a key of another type

# The same order the script relies on; see there why the first match is the true one.
_VERSION = re.compile(rb'{"user_id":".*?","version":(\d+)', re.DOTALL)

# What a refusal means for the person who runs the server: marks in the error, and the mend. The library turns
# some codes into class names, and Redis 6 buries them in the script's error, so both are looked for.
_MENDS = (
    (
        ("AuthenticationError", "WRONGPASS", "NOAUTH", "AUTH "),
        "it refuses the user or password: mend the url",
    ),
    (("ReadOnlyError", "READONLY"), "it is a read-only replica: point the url at the primary"),
    (("BusyLoadingError", "LOADING"), "it is still loading its data: it will answer when done"),
    (("OutOfMemoryError", "OOM "), "it is out of memory: raise its maxmemory or let it evict keys"),
    (("MISCONF",), "it cannot save to its disk and refuses writes: free space there, its log says more"),
    (
        (
            "MovedError",
            "AskError",
            "ClusterDownError",
            "MOVED ",
            "ASK ",
            "CROSSSLOT",
            "ClusterCrossSlotError",
        ),
        "it is part of a cluster, which this sink does not speak yet: point the url at a single server",
    ),
    (
        ("NoPermissionError", "NOPERM", "ACL failure", "user executing the script"),
        "its user lacks rights: +evalsha +script|load +get +set +publish (+xadd) on the keys and channels",
    ),
    (("WRONGTYPE",), "the key named by the option stream holds another type: choose another name"),
)


class Options(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    prefix: str = "credits:"
    ttl_seconds: PositiveInt | None = None
    stream: str = ""
    stream_maxlen: PositiveInt = 10_000
    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)


class Redis:
    """One server; `credits:{user_id}` is both the key and the channel."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, address: str, pool: ConnectionPool, options: Options) -> None:
        self._label = f"sink {name}: {address}"
        self._pool = pool
        self._client = redis.asyncio.Redis(connection_pool=pool)
        self._options = options
        self._secrets = [secret for secret in (pool.connection_kwargs.get("password"),) if secret]

    async def open(self) -> None:
        """Connect and load the script, which also proves the password."""
        try:
            await self._client.script_load(_SCRIPT)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store and publish each total that is newer than the one held, in one round trip.

        Refused is only a total whose key holds something that is not a string: replacing another
        program's list or hash would destroy it.
        """
        chunks = [totals[i : i + _TOTALS_PER_CALL] for i in range(0, len(totals), _TOTALS_PER_CALL)]
        calls = [self._call(chunk) for chunk in chunks]
        replies = await self._send(calls)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server restarted, or someone flushed its scripts
            loaded, *again = await self._send([("SCRIPT", "LOAD", _SCRIPT), *(calls[i] for i in unknown)])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = loaded if isinstance(loaded, Exception) else reply
        return self._rejections(chunks, replies)

    async def held(self, user_id: str) -> int | None:
        """Read the version at the user's key; None if there is none, or no total of ours."""
        try:
            json = await self._client.get(self._options.prefix + user_id)
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                return None
            raise self._unavailable(error) from None
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None
        return _version(json)

    async def held_many(self, user_ids: Sequence[str]) -> Sequence[int | None]:
        """Read the versions at many users' keys, in one round trip."""
        replies = await self._send([("GET", self._options.prefix + user_id) for user_id in user_ids])
        for reply in replies:
            if isinstance(reply, Exception) and "WRONGTYPE" not in str(reply):
                raise self._unavailable(reply)
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
            raise self._unavailable(held)
        replies = await self._send(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise self._unavailable(reply)
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
                raise self._unavailable(page)
            found += [
                entry for entry, fields in page if any(_bytes(each).startswith(begins) for each in fields.values())
            ]
            if len(page) < _PAGE_ENTRIES:
                break
            after = b"(" + _bytes(page[-1][0])
        return found

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most for a server that does not let go."""
        with contextlib.suppress(TimeoutError, RedisError, OSError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.aclose()
                await self._pool.aclose()

    def _call(self, totals: Sequence[Total]) -> tuple[Any, ...]:
        options = self._options
        keys = [options.prefix + total.user_id for total in totals]
        bound = 0
        if options.stream:
            keys.append(options.stream)
            bound = options.stream_maxlen
        documents = [total.json() for total in totals]
        return ("EVALSHA", _SHA, len(keys), *keys, options.ttl_seconds or 0, bound, *documents)

    async def _send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send all commands at once; refusals are in the replies. Raises SinkUnavailable."""
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            return await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from None

    def _rejections(self, chunks: Sequence[Sequence[Total]], replies: Sequence[Any]) -> list[Rejection]:
        rejections: list[Rejection] = []
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, Exception):
                raise self._unavailable(reply)
            for total, outcome in zip(chunk, reply, strict=True):
                if outcome == _FOREIGN:
                    reason = f"key {self._options.prefix}{total.user_id} is not a string: delete it"
                    rejections.append(Rejection(total, reason[:200]))
        return rejections

    def _unavailable(self, error: Exception) -> SinkUnavailable:
        text = f"{type(error).__name__} {error}"
        mend = next((mend for marks, mend in _MENDS if any(mark in text for mark in marks)), None)
        if mend is not None:
            return SinkUnavailable(f"{self._label}: {mend}")
        if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
            return SinkUnavailable(f"{self._label}: no answer in time: is it up, and is the address right?")
        said = " ".join(str(error).split())[:200]
        for secret in self._secrets:  # no error is known to quote one; none may learn to
            said = said.replace(secret, "***")
        return SinkUnavailable(f"{self._label}: {said or type(error).__name__}")


def _version(json: bytes | str | None) -> int | None:
    found = _VERSION.match(_bytes(json or b""))
    return int(found[1]) if found else None


def _bytes(text: bytes | str) -> bytes:
    """Undo decode_responses, which a url may ask for."""
    return text.encode() if isinstance(text, str) else text


def create(name: str, url: str, options: Options) -> Redis:
    """Make the sink for a `redis:` or `rediss:` url (TLS). Raises ConfigError."""
    scheme = url.split(":", 1)[0].lower()
    if scheme not in ("redis", "rediss"):
        raise ConfigError(f"sink {name}: {scheme} is not supported yet: use redis or rediss and a single server")
    try:
        address, pool = _pool(url, options)
    except (ValueError, TypeError, RedisError) as error:
        # The error's own text may quote the url, and with it the password.
        hint = f" ({error})" if str(error).startswith(("Invalid value", "database")) else ""
        raise ConfigError(
            f"sink {name}: the url is not redis://[user:password@]host[:port][/database]{hint}; "
            "special characters in the password must be percent-encoded"
        ) from None
    return Redis(name, address, pool, options)


def _pool(url: str, options: Options) -> tuple[str, ConnectionPool]:
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if database and not database.isdigit():  # the library would silently take database 0
        raise ValueError("database is not a number")
    pool = ConnectionPool.from_url(
        url,
        socket_timeout=options.timeout_seconds,
        socket_connect_timeout=options.connect_timeout_seconds,
        retry=Retry(NoBackoff(), 0),  # trying again is the publisher's
        protocol=2,
    )
    pool.connection_class(**pool.connection_kwargs)  # connects nothing; complains of parameters nobody knows
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "localhost"
    return f"{host}:{parts.port or 6379}", pool
