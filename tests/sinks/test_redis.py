from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
from tests.sinks.harness import VERSION, total
from tests.sinks.valkey import Valkey
from tests.workshop import free_port


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Sink]:
    sink = make(SinkSettings(name="cache", url=url, options=options))
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


@pytest.fixture
def subscriber(sink_valkey: Valkey) -> Iterator[Any]:
    with sink_valkey.client().pubsub() as pubsub:
        pubsub.psubscribe("*")
        assert pubsub.get_message(timeout=60)["type"] == "psubscribe"
        yield pubsub


def messages(server: Valkey, subscriber: Any) -> list[tuple[str, dict[str, Any]]]:
    """Everything published so far: what comes before a marker of our own."""
    server.client().publish("marker", "")
    found = []
    while (message := subscriber.get_message(timeout=60))["channel"] != "marker":
        found.append((message["channel"], json.loads(message["data"])))
    return found


async def test_the_set_and_the_message_are_one_step_and_one_text(sink_valkey: Valkey, subscriber: Any) -> None:
    async with opened(sink_valkey.url) as sink:
        await sink.deliver([total(), total("u2")])
    stored = json.loads(sink_valkey.client().get("credits:u1"))
    assert messages(sink_valkey, subscriber)[0] == ("credits:u1", stored)
    assert sink_valkey.client().ttl("credits:u1") == -1


async def test_what_is_already_held_is_not_published_again(sink_valkey: Valkey, subscriber: Any) -> None:
    async with opened(sink_valkey.url) as sink:
        await sink.deliver([total(version=VERSION + 1)])
        await sink.deliver([total(version=VERSION + 1)])
        await sink.deliver([total(version=VERSION)])
    assert [data["version"] for _, data in messages(sink_valkey, subscriber)] == [VERSION + 1]


async def test_versions_one_apart_are_told_apart_at_the_edge_of_a_json_number(sink_valkey: Valkey) -> None:
    edge = 2**53 - 1
    async with opened(sink_valkey.url) as sink:
        await sink.deliver([total(version=edge - 1)])
        await sink.deliver([total(version=edge)])
        assert await sink.held("u1") == edge
        await sink.deliver([total(version=edge - 1)])
        assert await sink.held("u1") == edge


async def test_two_daemons_at_once_leave_the_higher_version(sink_valkey: Valkey) -> None:
    patient = {"timeout_seconds": 60, "connect_timeout_seconds": 60}  # they are many at once, on a slow machine too
    async with opened(sink_valkey.url, **patient) as one, opened(sink_valkey.url, **patient) as other:
        async with asyncio.TaskGroup() as group:
            for step in range(200):
                sink = one if step % 2 else other
                group.create_task(sink.deliver([total(version=VERSION + (step * 37) % 200)]))
        assert await one.held("u1") == VERSION + 199


async def test_flushed_scripts_are_sent_again_within_the_same_delivery(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as sink:
        sink_valkey.client().script_flush()
        batch = [total(f"u{i}") for i in range(300)]
        assert list(await sink.deliver(batch)) == []
        assert sink_valkey.client().dbsize() == 300


async def test_a_restarted_server_is_served_without_a_failure_in_between(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as sink:
        await sink.deliver([total()])
        sink_valkey.stop()
        await asyncio.to_thread(sink_valkey.start)
        assert list(await sink.deliver([total()])) == []
        assert await sink.held("u1") == VERSION


@pytest.mark.parametrize(
    "foreign",
    [
        "120",
        "",
        "not json",
        '{"version":9999999999999999}',
        '{"a":{"user_id":"u1","version":9999999999999999}}',
        '[{"user_id":"u1","version":9999999999999999}]',
        '{"user_id":"u1","version":"9999999999999999"}',
        '{"user_id":"u1","credits":1,"version":9999999999999999}',
        "\udcff\udcfe",
    ],
)
async def test_a_string_of_another_program_counts_as_no_version(sink_valkey: Valkey, foreign: str) -> None:
    sink_valkey.client().set("credits:u1", foreign.encode(errors="surrogateescape"))
    async with opened(sink_valkey.url) as sink:
        assert await sink.held("u1") is None
        assert list(await sink.deliver([total()])) == []
        assert await sink.held("u1") == VERSION


async def test_a_key_of_another_type_is_refused_and_left_alone_and_others_pass(sink_valkey: Valkey) -> None:
    client = sink_valkey.client()
    client.rpush("credits:u1", "mine")
    async with opened(sink_valkey.url) as sink:
        (rejection,) = await sink.deliver([total(), total("u2")])
        assert rejection.total == total()
        assert "credits:u1" in rejection.reason
        assert await sink.held("u1") is None
        assert await sink.held("u2") == VERSION
    assert client.lrange("credits:u1", 0, -1) == ["mine"]


async def test_prefix_names_key_and_channel(sink_valkey: Valkey, subscriber: Any) -> None:
    async with opened(sink_valkey.url, prefix="app1:") as sink:
        await sink.deliver([total()])
        assert await sink.held("u1") == VERSION
    assert [channel for channel, _ in messages(sink_valkey, subscriber)] == ["app1:u1"]
    assert sink_valkey.client().keys() == ["app1:u1"]


async def test_ttl_seconds_is_set_with_the_total(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url, ttl_seconds=60) as sink:
        await sink.deliver([total()])
    assert 0 < sink_valkey.client().ttl("credits:u1") <= 60


async def test_the_stream_gets_each_new_total_once_and_stays_bounded(sink_valkey: Valkey) -> None:
    client = sink_valkey.client()
    async with opened(sink_valkey.url, stream="credits-log", stream_maxlen=200) as sink:
        await sink.deliver([total()])
        await sink.deliver([total()])
        assert [json.loads(entry["total"])["version"] for _, entry in client.xrange("credits-log")] == [VERSION]
        for step in range(1, 11):
            await sink.deliver([total(f"u{i}", VERSION + step) for i in range(200)])
        assert 200 <= client.xlen("credits-log") < 400


async def test_a_refused_publish_is_repeated_and_not_forgotten(sink_valkey: Valkey, subscriber: Any) -> None:
    client = sink_valkey.client()
    client.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "resetchannels", "+@all")
    url = sink_valkey.url.replace("redis://", "redis://app:pw@")
    async with opened(url) as sink:
        with pytest.raises(SinkUnavailable, match="lacks rights"):
            await sink.deliver([total()])
        client.execute_command("ACL", "SETUSER", "app", "&credits:*")
        await sink.deliver([total()])
    assert [data["version"] for _, data in messages(sink_valkey, subscriber)] == [VERSION]


async def test_the_rights_named_in_the_error_are_enough(sink_valkey: Valkey) -> None:
    keys, channels = ("resetkeys", "~credits:*", "~log"), ("resetchannels", "&credits:*")
    commands = ("-@all", "+evalsha", "+script|load", "+get", "+set", "+publish", "+xadd")
    sink_valkey.client().execute_command("ACL", "SETUSER", "app", "on", ">pw", *keys, *channels, *commands)
    url = sink_valkey.url.replace("redis://", "redis://app:pw@")
    async with opened(url, stream="log") as sink:
        await sink.deliver([total()])
        assert await sink.held("u1") == VERSION


async def test_a_wrong_password_is_told_with_its_mend_and_without_itself() -> None:
    server = Valkey("right")
    server.start()
    try:
        for url in (server.url.replace("right", "wr0ng"), f"redis://127.0.0.1:{server.port}"):
            with pytest.raises(SinkUnavailable, match="password: mend the url") as failure:
                async with opened(url):
                    pass
            assert "wr0ng" not in str(failure.value)
    finally:
        server.stop()


async def test_a_read_only_replica_is_told(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as sink:
        sink_valkey.client().execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(SinkUnavailable, match="point the url at the primary"):
            await sink.deliver([total()])
        sink_valkey.client().execute_command("REPLICAOF", "NO", "ONE")
        assert list(await sink.deliver([total()])) == []


async def test_a_full_server_is_told(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as sink:
        sink_valkey.client().config_set("maxmemory", 1)
        with pytest.raises(SinkUnavailable, match="maxmemory"):
            await sink.deliver([total()])
        sink_valkey.client().config_set("maxmemory", 0)
        assert list(await sink.deliver([total()])) == []


async def test_a_node_of_a_cluster_is_told(tmp_path: Path) -> None:
    files = ("--cluster-config-file", str(tmp_path / "nodes.conf"))
    server = Valkey("", "--cluster-enabled", "yes", "--cluster-port", str(free_port()), *files)
    server.start()
    try:
        async with opened(server.url) as sink:
            with pytest.raises(SinkUnavailable, match=r"redis\+cluster://|cluster is not whole"):
                await sink.deliver([total(), total("u2")])
    finally:
        server.stop()


async def test_a_stream_name_of_another_type_is_told(sink_valkey: Valkey) -> None:
    sink_valkey.client().set("log", "text")
    async with opened(sink_valkey.url, stream="log") as sink:
        with pytest.raises(SinkUnavailable, match="option stream"):
            await sink.deliver([total()])


async def test_a_server_that_does_not_answer_is_given_up_in_time(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url, timeout_seconds=1) as sink:
        sink_valkey.hang()
        async with asyncio.timeout(60):
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.deliver([total()])
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.held("u1")


async def test_a_port_where_nobody_listens_is_told_once() -> None:
    port = free_port()
    refused = f"^sink cache: 127.0.0.1:{port}: connection refused: is it up, and is the address right\\?$"
    with pytest.raises(SinkUnavailable, match=refused):
        async with opened(f"redis://127.0.0.1:{port}"):
            pass


async def test_a_connection_that_is_lost_while_it_is_greeted_is_a_lost_one(sink_valkey: Valkey) -> None:
    async def lost(_: object) -> None:  # as uvloop says it of a transport that was closed
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async with opened(sink_valkey.url) as sink:
        await sink.deliver([total()])
        redis_sink: Any = sink
        pool = redis_sink._server.client.connection_pool
        await redis_sink._server.kept.give_back()
        await pool.disconnect()
        pool.reset()
        pool.connection_kwargs["redis_connect_func"] = lost
        with pytest.raises(SinkUnavailable, match="the connection was lost"):
            await sink.deliver([total(version=VERSION + 1)])


async def test_what_is_no_redis_is_told() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SinkUnavailable, match=f"sink cache: 127.0.0.1:{port}: "):
            async with opened(f"redis://127.0.0.1:{port}"):
                pass


async def test_an_option_in_the_url_cannot_change_what_the_sink_reads(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url + "?decode_responses=true") as sink:
        await sink.deliver([total("Zoë", credits=Decimal("1.5"))])
        assert await sink.held("Zoë") == VERSION


async def test_the_database_of_the_url_is_used(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url.removesuffix("0") + "3") as sink:
        await sink.deliver([total()])
    assert sink_valkey.client().dbsize() == 0
    with redis.Redis(port=sink_valkey.port, db=3) as third:
        assert third.dbsize() == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis+tls://h:1", "not supported"),
        ("redis+cluster://:hunter2@h:1/3", "a cluster has none but 0"),
        ("redis+cluster://:hunter2@", "is not redis\\+cluster://"),
        ("redis+cluster://:hunter2@h:port", "is not redis\\+cluster://"),
        ("redis+cluster://:hunter2@h?no_such_thing=hunter2", "is not redis\\+cluster://"),
        ("redis+sentinel://:hunter2@h:1", "is not redis\\+sentinel://"),
        ("redis+sentinel://:hunter2@h:1/mymaster/x", "database is not a number"),
        ("redis+sentinel://:hunter2@h:1/mymaster?no_such_thing=hunter2", "is not redis\\+sentinel://"),
        ("redis://:hunter2@h:port/0", "is not redis://"),
        ("redis://:hun/ter2@h:1/0", "is not redis://"),
        ("redis://:hunter2@h:1/cache", "database is not a number"),
        ("redis://:hunter2@h:1/0?socket_timeout=hunter2", "is not redis://"),
        ("redis://:hunter2@h:1/0?no_such_thing=hunter2", "is not redis://"),
    ],
)
def test_a_wrong_url_is_one_line_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as failure:
        make(SinkSettings(name="cache", url=url))
    assert "hun" not in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ttl": 5}, "unknown option 'ttl': did you mean ttl_seconds?"),
        ({"ttl_seconds": 0}, "ttl_seconds: "),
        ({"stream_maxlen": -1}, "stream_maxlen: "),
        ({"timeout_seconds": "soon"}, "timeout_seconds: "),
        ({"zzz": 5}, "known: prefix, ttl_seconds"),
    ],
)
def test_a_wrong_option_is_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="cache", url="redis://h", options=options))
    assert str(failure.value).startswith("sink cache: ")
    assert says in str(failure.value)
