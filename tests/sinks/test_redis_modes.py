"""Redis and Valkey in a cluster, behind Sentinel, while loading, and through TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
import trustme

from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks.redis import RedisSink
from tests.conftest import eventually
from tests.sinks.harness import VERSION, total
from tests.sinks.redis_cluster_harness import Cluster
from tests.sinks.redis_sentinel_harness import Watched
from tests.sinks.test_redis import opened
from tests.sinks.valkey import Valkey
from tests.workshop import free_port


async def test_a_cluster_keeps_stream_ttl_and_rule(tmp_path: Path) -> None:
    cluster = Cluster()
    try:
        await cluster.start()
        async with opened(cluster.url, stream="credits-log", stream_maxlen=100, ttl_seconds=60) as sink:
            for step in (1, 1, 0):
                assert list(await sink.deliver([total(f"u{i}", VERSION + step) for i in range(50)])) == []
            assert await sink.held("u7") == VERSION + 1
            with cluster.client() as client:
                assert 0 < client.ttl("credits:u7") <= 60
                assert client.xlen("credits-log") == 50
                assert all(node.client().dbsize() > 0 for node in cluster.nodes)
            assert isinstance(sink, RedisSink)
            assert await sink.forget("u7") == 2
            assert list(await sink.held_many(["u7", "u8"])) == [None, VERSION + 1]
    finally:
        cluster.stop()


async def test_a_cluster_publishes_to_listeners_of_any_node() -> None:
    cluster = Cluster()
    try:
        await cluster.start()
        with cluster.nodes[2].client().pubsub() as pubsub:
            pubsub.psubscribe("credits:*")
            assert pubsub.get_message(timeout=60)["type"] == "psubscribe"
            async with opened(cluster.url) as sink:
                await sink.deliver([total(f"u{i}") for i in range(20)])
            heard = {pubsub.get_message(timeout=60)["channel"] for _ in range(20)}
            assert heard == {f"credits:u{i}" for i in range(20)}
    finally:
        cluster.stop()


async def test_flushed_scripts_of_a_cluster_are_sent_again_within_the_same_delivery() -> None:
    cluster = Cluster()
    try:
        await cluster.start()
        async with opened(cluster.url) as sink:
            for node in cluster.nodes:
                node.client().script_flush()
            assert list(await sink.deliver([total(f"u{i}") for i in range(30)])) == []
            assert await sink.held("u29") == VERSION
    finally:
        cluster.stop()


async def test_a_cluster_that_lost_a_node_is_told_and_served_again_when_it_is_back() -> None:
    cluster = Cluster()
    batch = [total(f"u{i}") for i in range(30)]
    try:
        await cluster.start()
        async with opened(cluster.url) as sink:
            cluster.nodes[1].stop()
            with pytest.raises(SinkUnavailable, match="sink cache: cluster "):
                await sink.deliver(batch)
            await asyncio.to_thread(cluster.nodes[1].start)
            await cluster.joined()
            assert list(await sink.deliver(batch)) == []
    finally:
        cluster.stop()


async def test_the_rights_named_in_the_documentation_are_enough_for_a_cluster() -> None:
    cluster = Cluster()
    keys, channels = ("resetkeys", "~credits:*", "~log"), ("resetchannels", "&credits:*")
    commands = "-@all +evalsha +script|load +get +set +publish +xadd +del +xrange +xdel +cluster|slots +command"
    try:
        await cluster.start()
        for node in cluster.nodes:
            node.client().execute_command("ACL", "SETUSER", "app", "on", ">pw", *keys, *channels, *commands.split())
        async with opened(cluster.url.replace("://", "://app:pw@"), stream="log") as sink:
            assert isinstance(sink, RedisSink)
            assert list(await sink.deliver([total(), total("u2")])) == []
            assert await sink.held("u1") == VERSION
            assert await sink.forget("u1") == 2
    finally:
        cluster.stop()


async def test_a_single_server_is_no_cluster(sink_valkey: Valkey) -> None:
    with pytest.raises(SinkUnavailable, match="it is no cluster"):
        async with opened(sink_valkey.url.replace("redis://", "redis+cluster://")):
            pass


async def test_after_a_failover_the_new_primary_is_served() -> None:
    watched = Watched(replica=True)
    try:
        await watched.start()
        async with opened(watched.url, stream="log", ttl_seconds=60) as sink:
            await sink.deliver([total()])
            watched.primary.stop()
            assert watched.replica is not None
            client = watched.replica.client()

            async def promoted() -> bool:
                return bool(client.info("replication")["role"] == "master")

            with pytest.raises(SinkUnavailable):
                await sink.deliver([total(version=VERSION + 1)])
            await eventually(promoted)

            async def served() -> bool:
                with contextlib.suppress(SinkUnavailable):
                    await sink.deliver([total(version=VERSION + 1)])
                return bool(json.loads(client.get("credits:u1") or '{"version":0}')["version"] == VERSION + 1)

            await eventually(served)
            assert 0 < client.ttl("credits:u1") <= 60
            assert client.xlen("log") >= 1
    finally:
        watched.stop()


async def test_a_name_the_sentinels_do_not_know_is_told() -> None:
    watched = Watched()
    try:
        await watched.start()
        with pytest.raises(SinkUnavailable, match="know no primary of this name"):
            async with opened(watched.url.replace("mymaster", "other")):
                pass
    finally:
        watched.stop()


async def test_a_server_that_is_loading_its_data_is_told_and_served_after(tmp_path: Path) -> None:
    files = ("--dir", str(tmp_path), "--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    server = Valkey("", *files, "--enable-debug-command", "yes", "--rdbcompression", "no")
    server.start()
    try:
        async with opened(server.url) as sink:
            server.client().execute_command("DEBUG", "POPULATE", 1000, "filler", 100)
            server.client().execute_command("SAVE")
            await sink.deliver([total()])
            server.stop()
            loading = asyncio.create_task(asyncio.to_thread(server.start))
            said: list[str] = []

            async def served() -> bool:
                try:
                    await sink.deliver([total()])
                except SinkUnavailable as error:
                    said.append(str(error))
                    return False
                return True

            await eventually(served)
            await loading
        assert any("still loading its data" in line for line in said)
    finally:
        server.stop()


async def test_tls_is_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = free_port()
    files = ("--tls-cert-file", str(pem), "--tls-key-file", str(pem), "--tls-ca-cert-file", str(tmp_path / "ca.pem"))
    server = Valkey("", "--tls-port", str(tls), "--tls-auth-clients", "no", *files)
    server.start()
    try:
        url = f"rediss://127.0.0.1:{tls}/0"
        bundle = f"Főtanúsítvány\n{authority.cert_pem.bytes().decode()}"
        async with opened(url, ca=bundle) as sink:
            assert list(await sink.deliver([total()])) == []
            assert await sink.held("u1") == VERSION
        async with opened(f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}") as sink:
            assert await sink.held("u1") == VERSION
        with pytest.raises(SinkUnavailable, match="certificate is not trusted"):
            async with opened(url):
                pass
        with pytest.raises(SinkUnavailable, match="certificate is not trusted"):  # which is another name's
            async with opened(url.replace("127.0.0.1", "localhost"), ca=bundle):
                pass
    finally:
        server.stop()
