"""`creditsd serve` as a process: what it streams, what it does without its feed, how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.acceptance.command import creditsd, environment, running
from tests.acceptance.test_supervision import listening
from tests.brokers import BROKERS, Broker, broker, publish, publishing
from tests.conftest import eventually
from tests.http.asking import KEY, asking, bearer
from tests.http.described import Described

STREAM = "/v1/users/{}/credits/stream"


def serving(server: Broker, **settings: str) -> dict[str, str]:
    """Settings of a gateway; the database named there does not exist."""
    return environment(
        CREDITSD_DSN="host=127.0.0.1 port=1 dbname=nowhere",
        CREDITSD_SERVE__FEED=server.url,
        CREDITSD_HTTP__API_KEYS=json.dumps([KEY]),
        **settings,
    )


@pytest.mark.parametrize("kind", BROKERS)
async def test_two_gateways_stream_what_a_sink_publishes_each_user_alone(kind: str, tmp_path: Path) -> None:
    async with broker(kind) as server:
        await publish(server, "bob", version=1, amount=5)
        env = serving(server)
        async with (
            running(tmp_path, env=env, command="serve") as one,
            running(tmp_path, env=env, command="serve") as two,
        ):
            await asyncio.gather(one.until_ready(), two.until_ready())
            async with (
                asking(one.port) as at_one,
                asking(two.port) as at_two,
                at_one.stream(STREAM.format("ann"), KEY) as ann,
                at_two.stream(STREAM.format("ann"), KEY) as ann_too,
                at_two.stream(STREAM.format("bob"), KEY) as bob,
            ):
                assert (await ann.total())["version"] == (await ann_too.total())["version"] == 0
                assert (await bob.total())["credits"] == 5
                await publish(server, "bob", version=2, amount=6)
                await publish(server, "ann", version=3, amount=7)
                assert [(await each.total())["credits"] for each in (ann, ann_too, bob)] == [7, 7, 6]
                assert (await at_one.read("bob", KEY)).body["data"]["credits"] == 6
                nobody = await at_one.read("nobody", KEY)
                assert (nobody.status, nobody.body["data"]["credits"]) == (200, 0)
                assert (await at_one.read("bob", None)).status == 401
                metrics = await at_two.get("/metrics")
                assert re.search(r"^creditsd_feed_users 2\.0$", metrics.body, re.MULTILINE)
                one.send(signal.SIGTERM)
                assert await ann.farewell() == "shutdown"
                assert await one.wait() == 0
                await publish(server, "ann", version=4, amount=8)
                assert (await ann_too.total())["credits"] == 8
        assert not two.logged("live.failed")


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_read_by_version_waits_for_what_a_sink_publishes(kind: str, tmp_path: Path) -> None:
    async with broker(kind) as server:
        await publish(server, "ann", version=1, amount=5)
        async with running(tmp_path, env=serving(server), command="serve") as gateway, asking(gateway.port) as asker:
            await gateway.until_ready()

            async def listening_to() -> str:
                return str((await asker.get("/metrics")).body)

            path = "/v1/users/ann/credits?min_version=2"
            waiting = asyncio.create_task(asker.get(path, **bearer(KEY)))
            await eventually(listening_to, lambda text: re.search(r"^creditsd_streams_open 1\.0$", text, re.MULTILINE))
            await publish(server, "ann", version=2, amount=6)
            assert (await waiting).body["data"]["credits"] == 6
            assert (await asker.get(path, **bearer(KEY))).body["data"]["version"] == 2
            assert (await asker.get("/v1/users/ann/credits/history", **bearer(KEY))).status == 404


@pytest.mark.parametrize("kind", BROKERS)
async def test_many_users_are_read_at_once(kind: str, tmp_path: Path) -> None:
    async with broker(kind) as server:
        known = {f"user {number}": number for number in range(1, 8)}
        for name, amount in known.items():
            await publish(server, name, version=amount, amount=amount)
        asked = [*reversed(known), *(f"nobody {number}" for number in range(1000 - len(known)))]
        env = serving(server, CREDITSD_EVENTS__LOW_CREDITS="10")
        async with running(tmp_path, env=env, command="serve") as gateway, asking(gateway.port) as asker:
            await gateway.until_ready()
            answer = await asker.post("/v1/credits", {"user_ids": asked}, KEY)
            assert answer.status == 200
            assert [each["user_id"] for each in answer.body["data"]] == asked
            assert [each["credits"] for each in answer.body["data"]] == [known.get(name, 0) for name in asked]
            described = Described()
            described.holds(answer, "/v1/credits", "POST")
            for path in ("/livez", "/readyz"):
                described.holds(await asker.get(path), path)
            nobody = answer.body["data"][-1]
            assert (nobody["level"], nobody["low_credits"]) == ("depleted", 10)


@pytest.mark.parametrize("kind", BROKERS)
async def test_streams_outlive_the_feed_and_are_told_what_they_missed(kind: str, tmp_path: Path) -> None:
    async with broker(kind) as server:
        env = serving(server, CREDITSD_HTTP__HEARTBEAT_SECONDS="0.1")
        async with running(tmp_path, env=env, command="serve") as gateway:
            await gateway.until_ready()
            async with asking(gateway.port) as asker, asker.stream(STREAM.format("ann"), KEY) as ann:
                await ann.total()
                server.stop()
                told = await gateway.until("/readyz", lambda answer: answer[0] == 503)
                assert told["feed"].startswith("serve.feed: ")
                while (await ann.block()).keys() != {""}:
                    pass  # a heartbeat
                refused = await asker.get(STREAM.format("bob"), **bearer(KEY))
                assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
                assert (await asker.read("ann", KEY)).status == 503
                server.start()
                await publish(server, "ann", version=9, amount=3)
                assert (await ann.total())["credits"] == 3
                await gateway.until_ready()
                assert (await asker.read("ann", KEY)).body["data"]["version"] == 9


async def test_it_waits_for_a_feed_that_is_not_there_yet_and_tells_systemd(tmp_path: Path) -> None:
    async with broker("redis") as server:
        server.stop()
        env = serving(server, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")
        with listening(str(tmp_path / "notify")) as manager:
            async with running(tmp_path, env=env, command="serve") as gateway:
                while "STATUS=waiting: serve.feed: 127.0.0.1" not in await manager.hear():
                    pass
                assert (await gateway.ask("/livez"))[0] == 200
                assert (await gateway.ask("/readyz"))[0] == 503
                await manager.until("WATCHDOG=1")
                server.start()
                await manager.until("READY=1")
                assert (await gateway.ask("/readyz"))[0] == 200
                assert await gateway.end(signal.SIGINT) == 0
                while manager.pending():
                    pass
                assert "STOPPING=1" in manager.heard


async def test_a_slow_reader_is_told_the_newest_and_spared_the_rest(tmp_path: Path) -> None:
    last = 60
    async with broker("redis") as server, running(tmp_path, env=serving(server), command="serve") as gateway:
        await gateway.until_ready()
        async with asking(gateway.port) as asker, asker.stream(STREAM.format("ann"), KEY) as quick:
            with socket.socket() as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                slow.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(slow, ("127.0.0.1", gateway.port))
                head = f"GET {STREAM.format('ann')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
                await loop.sock_sendall(slow, head.encode())
                read = await until(slow, b"id: 0\n")
                async with publishing(server) as publish_total:
                    for version in range(1, last + 1):
                        await publish_total("ann", version=version, plan="x" * 60_000)
                        await quick.until(version)
                read += await until(slow, b"id: %d\n" % last)
        assert read.count(b"id: ") < last / 2


async def until(link: socket.socket, words: bytes) -> bytes:
    """Read until certain words have come."""
    read = b""
    async with asyncio.timeout(60):
        while words not in read:
            read += await asyncio.get_running_loop().sock_recv(link, 65536)
    return read


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "CREDITSD_SERVE__FEED"),
        ({"CREDITSD_SERVE__FEED": "redis//:secret@h"}, "CREDITSD_SERVE__FEED: must be a url"),
        ({"CREDITSD_SERVE__FEEDS": "redis://h"}, "did you mean CREDITSD_SERVE__FEED?"),
    ],
)
async def test_wrong_settings_are_one_line(settings: dict[str, str], says: str) -> None:
    done = await creditsd("serve", env=environment(CREDITSD_HTTP__LISTEN="127.0.0.1:0") | settings)
    assert (done.code, done.out, done.err.count("\n")) == (78, "", 1), done.err
    assert says in done.err
    assert "secret" not in done.err
