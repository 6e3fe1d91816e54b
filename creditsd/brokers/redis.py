"""Redis and Valkey: one server, the primary that sentinels name, or a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from pydantic import BaseModel, Field, PositiveFloat
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from creditsd.brokers.closing import bounded
from creditsd.brokers.connection_loss import loss_named
from creditsd.brokers.redis_connection import KeptConnection, answer
from creditsd.brokers.servers import Server, authority, listed
from creditsd.brokers.tls import certificates, wanted
from creditsd.config.printable import one_line
from creditsd.domain.errors import ConfigError

FAILURES = (RedisError, RedisClusterException, OSError)

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
    (("NoPermissionError", "NOPERM", "ACL failure", "user executing the script"), "its user lacks rights: {rights}"),
    (("Error 111 ", "Error 61 ", "Connection refused"), "connection refused: is it up, and is the address right?"),
    (("WRONGTYPE",), "the key named by the option stream holds another type: choose another name"),
)


class RedisOptions(BaseModel, extra="forbid"):
    """What can be set beside the url."""

    timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """for each answer"""
    connect_timeout_seconds: PositiveFloat = Field(default=5.0, allow_inf_nan=False)
    """to connect and log in"""
    ca: str = ""
    """with `rediss`: the certificate, in PEM, that signed the server's, instead of the system's"""
    sentinel_username: str = ""
    """of the sentinels themselves; the url's login is the server's"""
    sentinel_password: str = ""
    """the same"""


@dataclass(frozen=True, slots=True)
class RedisBroker:
    """A client of one server, of the primary that sentinels name, or of a cluster."""

    address: str
    client: Any  # redis.asyncio.Redis or RedisCluster: the same calls, without a common type
    closing: Sequence[Any]
    secrets: Sequence[str]
    kept: KeptConnection | None
    """for one sender that writes much, or at once; none to a cluster"""

    @property
    def cluster(self) -> bool:
        """Whether what is sent goes to one of several servers."""
        return self.kept is None

    async def send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send all commands at once; refusals are in the replies. Raises what is in FAILURES."""
        pipeline = self.client.pipeline() if self.cluster else self.client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        await self._spare()
        with loss_named():
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def load(self, script: str) -> None:
        """Have the server, or each primary of a cluster, keep a script. Raises what is in FAILURES."""
        await self._spare()
        with loss_named():
            await self.client.script_load(script)

    @property
    def database(self) -> int:
        """The number of the server's database. Not for a cluster."""
        return int(self.client.connection_pool.connection_kwargs.get("db") or 0)

    def begin_with(self, commands: Sequence[tuple[Any, ...]], heard: Callable[[list[Any]], None]) -> None:
        """Have each connection that is made from now on begin with commands; `heard` gets the answers, refusals too.

        The connection is closed where that raises what is in FAILURES. Not for a cluster.
        """

        async def greet(connection: Any) -> None:
            await connection.on_connect()
            for command in commands:
                await connection.send_command(*command)
            heard([await answer(connection) for _ in commands])

        self.client.connection_pool.connection_kwargs["redis_connect_func"] = greet

    def explain(self, error: Exception, rights: str) -> str:
        """Say in one line what is wrong, without a secret; `rights` is what a user needs who lacks some."""
        text = f"{type(error).__name__} {error}"
        mend = next((mend for marks, mend in _MENDS if any(mark in text for mark in marks)), None)
        if mend is not None:
            return f"{self.address}: {mend.format(rights=rights)}"
        if isinstance(error, redis.exceptions.TimeoutError | TimeoutError):
            return f"{self.address}: no answer in time: is it up, and is the address right?"
        said = one_line(str(error), self.secrets)  # no error is known to quote one; none may learn to
        return f"{self.address}: {said or type(error).__name__}"

    async def close(self) -> None:
        """Close the connections, waiting 2 s at most for a server that does not let go."""
        async with bounded():
            if self.kept is not None:
                await self.kept.forget()
            for each in self.closing:
                with contextlib.suppress(*FAILURES):
                    await each.aclose()

    async def _spare(self) -> None:
        """Have what is sent otherwise go over the connection that is kept, where that is free."""
        if self.kept is not None:
            await self.kept.give_back()


def reach(whose: str, url: str, options: RedisOptions) -> RedisBroker:
    """Read a `redis:` url, `+cluster` or `+sentinel`; `rediss` is TLS. Connects nothing. Raises ConfigError."""
    scheme, _, rest = url.partition(":")
    base, _, mode = scheme.lower().partition("+")
    if base not in ("redis", "rediss") or mode not in _MODES:
        raise ConfigError(f"{whose}: {scheme} is not supported: use redis, redis+cluster or redis+sentinel")
    wanted(whose, options.ca)
    make, form = _MODES[mode]
    try:
        return make(f"{base}:{rest}", options)
    except (ValueError, TypeError, *FAILURES) as error:
        # The error's own text may quote the url, and with it the password.
        hint = f" ({error})" if str(error).startswith(("Invalid value", "database")) else ""
        raise ConfigError(
            f"{whose}: the url is not {form}{hint}; special characters in the password must be percent-encoded"
        ) from None


def _single(url: str, options: RedisOptions) -> RedisBroker:
    parts = urlsplit(url)
    _database(parts.path.strip("/"))
    pool = ConnectionPool.from_url(url, **_common(url, options))
    pool.connection_class(**pool.connection_kwargs)  # connects nothing; complains of parameters nobody knows
    client = redis.asyncio.Redis(connection_pool=pool)
    address = str(Server(parts.hostname or "localhost", parts.port or 6379))
    return RedisBroker(address, client, (client, pool), _secrets(pool.connection_kwargs), KeptConnection(pool))


def _sentinel(url: str, options: RedisOptions) -> RedisBroker:
    nodes, path, login = _several(url, 26379)
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("no service")
    common = _common(url, options)
    for_sentinels = {**common, "username": options.sentinel_username or None}
    for_sentinels["password"] = options.sentinel_password or None
    tls = {"ssl": True} if url.startswith("rediss") else {}
    settings = {**common, **login, "db": _database(database), **tls}
    addresses = [(each.host, each.port) for each in nodes]
    sentinel = Sentinel(addresses, sentinel_kwargs={**for_sentinels, **tls}, **settings)  # type: ignore[no-untyped-call]
    client = sentinel.master_for(service)
    pool = client.connection_pool
    pool.connection_class(**pool.connection_kwargs)
    secrets = [*_secrets(login), *filter(None, [options.sentinel_password])]
    address = f"{service} of the sentinels {listed(nodes)}"
    return RedisBroker(address, client, (client, pool, *sentinel.sentinels), secrets, KeptConnection(pool))


def _cluster(url: str, options: RedisOptions) -> RedisBroker:
    nodes, path, login = _several(url, 6379)
    if _database(path):
        raise ValueError("database: a cluster has none but 0")
    client = RedisCluster(
        startup_nodes=[ClusterNode(each.host, each.port) for each in nodes],
        ssl=url.startswith("rediss"),
        **{**_common(url, options), **login},
    )
    return RedisBroker(f"cluster {listed(nodes)}", client, (client,), _secrets(login), None)


_MODES: dict[str, tuple[Callable[[str, RedisOptions], RedisBroker], str]] = {
    "": (_single, "redis://[user:password@]host[:port][/database]"),
    "sentinel": (_sentinel, "redis+sentinel://[user:password@]host[:port][,host[:port] …]/service[/database]"),
    "cluster": (_cluster, "redis+cluster://[user:password@]host[:port][,host[:port] …]"),
}


def _common(url: str, options: RedisOptions) -> dict[str, Any]:
    trusted = {"ssl_ca_data": certificates(options.ca)} if options.ca and url.startswith("rediss") else {}
    return trusted | {
        "socket_timeout": options.timeout_seconds,
        "socket_connect_timeout": options.connect_timeout_seconds,
        "retry": Retry(NoBackoff(), 0),  # trying again is the publisher's
        "protocol": 2,
    }


def _several(url: str, port: int) -> tuple[Sequence[Server], str, dict[str, Any]]:
    """Split a url with several servers into them, the path, and what the library reads from the rest."""
    scheme, _, rest = url.partition("://")
    before, _, query = rest.partition("?")
    named, _, path = before.partition("/")
    found = authority(named, port)
    settings: dict[str, Any] = dict(parse_url(f"{scheme}://{found.userinfo}@host?{query}"))
    for name in ("host", "connection_class"):
        settings.pop(name, None)
    return found.servers, path.strip("/"), settings


def _database(text: str) -> int:
    if text and not text.isdigit():  # the library would silently take database 0
        raise ValueError("database is not a number")
    return int(text or 0)


def _secrets(settings: Mapping[str, Any]) -> list[str]:
    return [secret for secret in (settings.get("password"),) if secret]
