"""Redis and Valkey, one server, Sentinel or cluster: a key per user that only a higher version replaces."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from creditsd.errors import ConfigError, SinkUnavailable
from creditsd.model import Total, encode
from creditsd.sinks import Rejection

MAX_BATCH = 2000

# Measured with Valkey on one machine, totals a second: one script call each 26 000 to 38 000, calls of 128
# totals 79 000, of 1 000 totals 99 000. A call blocks the server for everyone, about a millisecond at 128.
_TOTALS_PER_CALL = 128
_PAGE_ENTRIES = 1000
_CLOSE_SECONDS = 2.0
_FAILURES = (RedisError, RedisClusterException, OSError)

_SCRIPT = Path(__file__).with_suffix(".lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_FOREIGN = -1  # what the script answers for a key of another type

# The same order the script relies on; see there why the first match is the true one.
_VERSION = re.compile(rb'{"user_id":".*?","version":(\d+)', re.DOTALL)

_CLUSTER = "it is part of a cluster: write the url with redis+cluster://"
_NOT_WHOLE = "its cluster is not whole: some slots are served by nobody"

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
    (("CLUSTERDOWN", "ClusterDownError", "SlotNotCovered", "slot not served", "slots are covered"), _NOT_WHOLE),
    (("MovedError", "MOVED ", "AskError", "ASK ", "CROSSSLOT", "CrossSlot"), _CLUSTER),
    (("Cluster mode is not enabled", "cluster support disabled"), "it is no cluster: write the url with redis://"),
    (("No master found", "MasterNotFoundError"), "the sentinels know no primary of this name, or do not answer"),
    (("Redis Cluster cannot be connected",), "none of its nodes can be reached: is it up, and is the address right?"),
    (("CERTIFICATE_VERIFY_FAILED",), "its certificate is not trusted: set ca_file to what signed it"),
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
    ca: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""


@dataclass(frozen=True, slots=True)
class _Server:
    """Whom to talk to: one server, the primary that sentinels name, or all nodes of a cluster."""

    address: str
    client: Any  # redis.asyncio.Redis or RedisCluster: the same calls, without a common type
    closing: Sequence[Any]
    secrets: Sequence[str]
    cluster: bool = False


class Redis:
    """`credits:{user_id}` is both the key and the channel."""

    max_batch = MAX_BATCH

    def __init__(self, name: str, server: _Server, options: Options) -> None:
        self._label = f"sink {name}: {server.address}"
        self._server = server
        self._client = server.client
        self._options = options
        # The keys of a cluster live in different slots, and a call reaches one slot only.
        self._totals_per_call = 1 if server.cluster else _TOTALS_PER_CALL

    async def open(self) -> None:
        """Connect and load the script, which also proves the password."""
        try:
            await self._client.script_load(_SCRIPT)
        except _FAILURES as error:
            raise await self._failed(error) from None

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        """Store and publish each total that is newer than the one held, in one round trip.

        Refused is only a total whose key holds something that is not a string: replacing another
        program's list or hash would destroy it.
        """
        if self._options.stream and self._server.cluster:
            await self._append(totals)
        step = self._totals_per_call
        chunks = [totals[i : i + step] for i in range(0, len(totals), step)]
        calls = [self._call(chunk) for chunk in chunks]
        replies = await self._send(calls)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the server restarted, or someone flushed its scripts
            await self.open()
            again = await self._send([calls[i] for i in unknown])
            for i, reply in zip(unknown, again, strict=True):
                replies[i] = reply
        return await self._rejections(chunks, replies)

    async def held(self, user_id: str) -> int | None:
        """Read the version at the user's key; None if there is none, or no total of ours."""
        try:
            json = await self._client.get(self._options.prefix + user_id)
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                return None
            raise await self._failed(error) from None
        except _FAILURES as error:
            raise await self._failed(error) from None
        return _version(json)

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                for each in self._server.closing:
                    with contextlib.suppress(*_FAILURES):
                        await each.aclose()

    def _call(self, totals: Sequence[Total]) -> tuple[Any, ...]:
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
        pipeline = self._client.pipeline() if self._server.cluster else self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except _FAILURES as error:
            raise await self._failed(error) from None
        return replies

    async def _rejections(self, chunks: Sequence[Sequence[Total]], replies: Sequence[Any]) -> list[Rejection]:
        rejections: list[Rejection] = []
        for chunk, reply in zip(chunks, replies, strict=True):
            if isinstance(reply, Exception):
                raise await self._failed(reply)
            for total, outcome in zip(chunk, reply, strict=True):
                if outcome == _FOREIGN:
                    reason = f"key {self._options.prefix}{total.user_id} is not a string: delete it"
                    rejections.append(Rejection(total, reason[:200]))
        return rejections

    async def _failed(self, error: Exception) -> SinkUnavailable:
        """Say it in one line; a cluster is asked anew next time who serves what."""
        if self._server.cluster:
            await self.close()
        text = f"{type(error).__name__} {error}"
        mend = next((mend for marks, mend in _MENDS if any(mark in text for mark in marks)), None)
        if mend is not None:
            return SinkUnavailable(f"{self._label}: {mend}")
        if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
            return SinkUnavailable(f"{self._label}: no answer in time: is it up, and is the address right?")
        said = " ".join(str(error).split())[:200]
        for secret in self._server.secrets:  # no error is known to quote one; none may learn to
            said = said.replace(secret, "***")
        return SinkUnavailable(f"{self._label}: {said or type(error).__name__}")


def _version(json: bytes | str | None) -> int | None:
    found = _VERSION.match(_bytes(json or b""))
    return int(found[1]) if found else None


def _bytes(text: bytes | str) -> bytes:
    """Undo decode_responses, which a url may ask for."""
    return text.encode() if isinstance(text, str) else text


def create(name: str, url: str, options: Options) -> Redis:
    """Make the sink for a `redis:` url, `+cluster` or `+sentinel`; `rediss` is TLS. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    base, _, mode = scheme.lower().partition("+")
    if base not in ("redis", "rediss") or mode not in _MODES:
        raise ConfigError(f"sink {name}: {scheme} is not supported: use redis, redis+cluster or redis+sentinel")
    _check(name, options)
    make, form = _MODES[mode]
    try:
        server = make(f"{base}:{rest}", options)
    except (ValueError, TypeError, *_FAILURES) as error:
        # The error's own text may quote the url, and with it the password.
        hint = f" ({error})" if str(error).startswith(("Invalid value", "database")) else ""
        raise ConfigError(
            f"sink {name}: the url is not {form}{hint}; special characters in the password must be percent-encoded"
        ) from None
    return Redis(name, server, options)


def _check(name: str, options: Options) -> None:
    try:
        ssl.create_default_context(cadata=options.ca or None)
    except (ssl.SSLError, ValueError):
        raise ConfigError(f"sink {name}: ca is not a certificate in PEM") from None


def _single(url: str, options: Options) -> _Server:
    parts = urlsplit(url)
    _database(parts.path.strip("/"))
    pool = ConnectionPool.from_url(url, **_common(url, options))
    pool.connection_class(**pool.connection_kwargs)  # connects nothing; complains of parameters nobody knows
    client = redis.asyncio.Redis(connection_pool=pool)
    host = _bracketed(parts.hostname or "localhost")
    return _Server(f"{host}:{parts.port or 6379}", client, (client, pool), _secrets(pool.connection_kwargs))


def _sentinel(url: str, options: Options) -> _Server:
    nodes, path, login = _several(url, 26379)
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("no service")
    common = _common(url, options)
    for_sentinels = {**common, "username": options.sentinel_username or None}
    for_sentinels["password"] = options.sentinel_password or None
    tls = {"ssl": True} if url.startswith("rediss") else {}
    settings = {**common, **login, "db": _database(database), **tls}
    sentinel = Sentinel(nodes, sentinel_kwargs={**for_sentinels, **tls}, **settings)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(service)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)
    secrets = [*_secrets(login), *filter(None, [options.sentinel_password])]
    address = f"{service} of the sentinels {_listed(nodes)}"
    return _Server(address, client, (client, pool, *sentinel.sentinels), secrets)


def _cluster(url: str, options: Options) -> _Server:
    nodes, path, login = _several(url, 6379)
    if _database(path):
        raise ValueError("database: a cluster has none but 0")
    client = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in nodes],
        ssl=url.startswith("rediss"),
        **{**_common(url, options), **login},
    )
    return _Server(f"cluster {_listed(nodes)}", client, (client,), _secrets(login), cluster=True)


_MODES: dict[str, tuple[Callable[[str, Options], _Server], str]] = {
    "": (_single, "redis://[user:password@]host[:port][/database]"),
    "sentinel": (_sentinel, "redis+sentinel://[user:password@]host[:port][,host[:port] …]/service[/database]"),
    "cluster": (_cluster, "redis+cluster://[user:password@]host[:port][,host[:port] …]"),
}


def _common(url: str, options: Options) -> dict[str, Any]:
    trusted = {"ssl_ca_data": options.ca} if options.ca and url.startswith("rediss") else {}
    return trusted | {
        "socket_timeout": options.timeout_seconds,
        "socket_connect_timeout": options.connect_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),  # trying again is the publisher's
        "protocol": 2,
    }


def _several(url: str, port: int) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Split a url with several servers into them, the path, and what the library reads from the rest."""
    scheme, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    userinfo, at, hosts = authority.rpartition("@")
    nodes: list[tuple[str, int]] = []
    for text in hosts.split(","):
        parts = urlsplit(f"redis://{text}")
        if not parts.hostname:
            raise ValueError("no host")
        nodes.append((parts.hostname, parts.port or port))
    settings: dict[str, Any] = dict(parse_url(f"{scheme}://{userinfo}{at}host?{query}"))
    for name in ("host", "connection_class"):
        settings.pop(name, None)
    return nodes, path.strip("/"), settings


def _database(text: str) -> int:
    if text and not text.isdigit():  # the library would silently take database 0
        raise ValueError("database is not a number")
    return int(text or 0)


def _secrets(settings: Mapping[str, Any]) -> list[str]:
    return [secret for secret in (settings.get("password"),) if secret]


def _listed(nodes: Sequence[tuple[str, int]]) -> str:
    return ",".join(f"{_bracketed(host)}:{port}" for host, port in nodes)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
