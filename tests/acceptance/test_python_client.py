"""The Python client against the daemon itself: restarts, tokens that run out, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest

from creditsd_client import (
    BlockingCredits,
    ClosedError,
    Credits,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    ReplacedError,
    Stream,
    Total,
    UnauthorizedError,
    UnavailableError,
)
from tests.acceptance.command import environment, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.brokers import broker, publish
from tests.conftest import eventually
from tests.http.asking import KEY, SECRET, token
from tests.servers import free_port

PATIENCE_SECONDS = 30


def with_keys(env: dict[str, str], **settings: str) -> dict[str, str]:
    return env | {"CREDITSD_HTTP__API_KEYS": json.dumps([KEY]), "CREDITSD_HTTP__JWT_SECRET": SECRET} | settings


async def until(stream: Stream, state: str) -> None:
    async def now() -> str:
        return stream.state

    await eventually(now, lambda found: found == state, PATIENCE_SECONDS)


async def test_a_stream_outlives_the_daemon_and_misses_nothing(installed: Operator, tmp_path: Path) -> None:
    port, env = free_port(), with_keys(installed.env)
    async with (
        Credits(f"http://127.0.0.1:{port}", api_key=KEY, retry_seconds=0.05) as client,
        client.stream(ONE) as stream,
        asyncio.timeout(PATIENCE_SECONDS * 3),
    ):
        async with running(tmp_path, env=env, port=port) as daemon:
            await daemon.until_ready()
            first = await anext(stream)
            assert first.credits == 120
            assert first.plan_type == "subscription"
            assert stream.state == "live"
            assert await client.read(ONE) == first
            assert await daemon.end() == 0
        waiting = asyncio.create_task(anext(stream))
        await until(stream, "waiting")
        assert stream.problem
        with pytest.raises(UnavailableError):
            await client.read(ONE)
        installed.database.run(f"UPDATE user_credits SET credits = credits + 1 WHERE user_id = '{ONE}'")
        async with running(tmp_path, env=env, port=port) as daemon:
            second = await waiting
            assert second.version > first.version
            assert second.credits == 122
            await daemon.until_ready()
            # Who was cancelled while waiting asks again, and nothing is lost by it.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await anext(stream)
            installed.database.run(f"UPDATE user_credits SET credits = credits + 1 WHERE user_id = '{ONE}'")
            third = await anext(stream)
            assert third.version > second.version
            assert third.credits == 124
            await _refusals(f"http://127.0.0.1:{port}")


async def _refusals(url: str) -> None:
    """What is not tried again, on the daemon that runs."""
    async with Credits(url, api_key="not a key of anybody") as client:
        with pytest.raises(UnauthorizedError, match="answers 401: "):
            await client.read(ONE)
        stream = client.stream(ONE)
        with pytest.raises(UnauthorizedError):
            await anext(stream)
        assert stream.state == "closed"
        assert [total async for total in stream] == []
    async with Credits(url, api_key=token()) as client:
        with pytest.raises(ForbiddenError):
            await client.read(TWO)
    async with Credits(f"{url}/elsewhere", api_key=KEY) as client:
        with pytest.raises(NotFoundError):
            await client.read(ONE)


async def test_a_token_that_runs_out_is_renewed_and_the_oldest_of_many_streams_ends(tmp_path: Path) -> None:
    asked: list[str] = []

    async def renewed() -> str:
        asked.append(token("ann", seconds=1 if len(asked) == 0 else 60))
        return asked[-1]

    settings = {"CREDITSD_HTTP__MAX_STREAMS_PER_USER": "1", "CREDITSD_HTTP__JWT_LEEWAY_SECONDS": "0"}
    async with broker("redis") as server:
        env = with_keys(environment(CREDITSD_SERVE__FEED=server.url), **settings)
        async with running(tmp_path, env=env, command="serve") as gateway, asyncio.timeout(PATIENCE_SECONDS * 2):
            await gateway.until_ready()
            url = f"http://127.0.0.1:{gateway.port}"
            async with Credits(url, token=renewed, retry_seconds=0.05) as client, client.stream() as stream:
                assert (await anext(stream)).version == 0
                waiting = asyncio.create_task(anext(stream))

                async def tokens() -> int:
                    return len(asked)

                await eventually(tokens, lambda found: found >= 2, PATIENCE_SECONDS)
                await until(stream, "live")
                await publish(server, "ann", version=1, amount=4)
                assert (await waiting).credits == 4
                waiting = asyncio.create_task(anext(stream))
                async with client.stream() as newer:
                    assert (await anext(newer)).credits == 4
                    with pytest.raises(ReplacedError):
                        await waiting
            stale = token("ann", seconds=-5)
            async with Credits(url, token=stale) as client:
                with pytest.raises(UnauthorizedError):
                    await anext(client.stream())


@contextlib.asynccontextmanager
async def answering(operator: Operator, path: Path, **settings: str) -> AsyncIterator[str]:
    """A daemon that is ready, by its address."""
    port = free_port()
    async with running(path, env=with_keys(operator.env, **settings), port=port) as daemon:
        await daemon.until_ready()
        yield f"http://127.0.0.1:{port}"


async def test_the_json_is_kept_as_the_server_sent_it(installed: Operator, tmp_path: Path) -> None:
    async with (
        answering(installed, tmp_path) as url,
        Credits(url, api_key=KEY) as client,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"{url}/v1/users/{ONE}/credits", headers={"X-API-Key": KEY}) as response:
            body = await response.text()
        total = await client.read(ONE)
        assert body == f'{{"success":true,"data":{total.json}}}'
        async with client.stream(ONE) as stream:
            streamed = await anext(stream)
        assert (streamed, streamed.json) == (total, total.json)


async def test_what_was_just_written_is_read(installed: Operator, tmp_path: Path) -> None:
    async with answering(installed, tmp_path) as url, Credits(url, api_key=KEY) as client:
        before = await client.read(ONE)
        assert (await client.read(ONE, min_version=before.version)).version == before.version

        async def newer() -> Total:
            return await client.read(ONE, min_version=before.version + 1)

        def newer_blocking() -> Total:
            with BlockingCredits(url, api_key=KEY) as blocking:
                return blocking.read(ONE, min_version=before.version + 1)

        waiting = [asyncio.create_task(newer()), asyncio.create_task(asyncio.to_thread(newer_blocking))]
        async with aiohttp.ClientSession() as session:

            async def listening() -> str:
                async with session.get(f"{url}/metrics") as answer:
                    return await answer.text()

            await eventually(listening, lambda text: "creditsd_streams_open 2.0\n" in text)
        installed.database.run(f"UPDATE user_credits SET credits = credits + 1 WHERE user_id = '{ONE}'")
        for total in await asyncio.gather(*waiting):
            assert (total.credits > before.credits, total.version > before.version) == (True, True)


async def test_many_are_read_at_once_however_slow_the_server_wants_it(installed: Operator, tmp_path: Path) -> None:
    unknown = [f"00000000-0000-0000-0000-{number:012}" for number in range(100, 112)]
    # Eight at once and four a second: the last of fourteen come after two refusals at least.
    limit = {"CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_CALLER": "4"}
    async with (
        answering(installed, tmp_path, **limit) as url,
        Credits(url, api_key=KEY) as client,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        totals = await client.read_many(iter([TWO, *unknown, ONE, TWO]))
        assert list(totals) == [TWO, *unknown, ONE]
        assert totals[ONE].credits == 120
        assert totals[TWO].membership_status == "expired"
        assert {totals[user_id].membership_status for user_id in unknown} == {"none"}
        assert await client.read_many([]) == {}


async def test_the_first_that_is_refused_ends_many(installed: Operator, tmp_path: Path) -> None:
    async with answering(installed, tmp_path) as url, Credits(url, api_key=KEY) as client:
        with pytest.raises(RefusedError, match="answers 400: "):
            await client.read_many([ONE, "not a uuid", TWO])
        with pytest.raises(ValueError, match="at_once"):
            await client.read_many([ONE], at_once=0)
    with pytest.raises(UnavailableError, match="does not answer"):
        async with Credits(url, api_key=KEY) as client:
            await client.read_many([ONE, TWO])


async def test_a_blocking_client_reads_and_follows_from_several_threads(installed: Operator, tmp_path: Path) -> None:
    def change() -> None:
        installed.database.run(f"UPDATE user_credits SET credits = credits + 1 WHERE user_id = '{ONE}'")

    def follow(client: BlockingCredits) -> list[int]:
        with client.stream(ONE) as stream:
            seen = [int(next(stream).credits)]
            assert stream.wait(0.01) is None
            change()
            for total in stream:
                seen.append(int(total.credits))
                assert (stream.total, stream.state) == (total, "live")
                if total.credits == 122:
                    break
        assert list(stream) == []
        return seen

    def use(url: str) -> None:
        with BlockingCredits(url, api_key=KEY, retry_seconds=0.05) as client, ThreadPoolExecutor(4) as threads:
            reading = [threads.submit(client.read, ONE) for _ in range(20)]
            assert {each.result().credits for each in reading} == {120}
            many = client.read_many([ONE, TWO])
            assert [int(total.credits) for total in many.values()] == [120, 0]
            assert threads.submit(follow, client).result()[0] == 120
            with pytest.raises(RefusedError, match="answers 400: "):
                client.read("not a uuid")
        with pytest.raises(ClosedError):
            client.read(ONE)

    async with answering(installed, tmp_path) as url, asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.to_thread(use, url)


async def test_closing_a_blocking_client_wakes_whoever_waits(installed: Operator, tmp_path: Path) -> None:
    def use(url: str) -> None:
        client = BlockingCredits(url, token=lambda: token(ONE))
        first, second = client.stream(), client.stream()
        with ThreadPoolExecutor(2) as threads:
            for stream in (first, second):
                assert next(stream).credits == 120
            waiting = [threads.submit(list[Total], stream) for stream in (first, second)]
            first.close()
            assert waiting[0].result() == []
            assert second.state == "live"
            client.close()
            assert waiting[1].result() == []
        assert second.wait() is None

    async with answering(installed, tmp_path) as url, asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.to_thread(use, url)


async def test_an_interrupted_wait_leaves_the_stream_usable(installed: Operator, tmp_path: Path) -> None:
    program = """
import signal, sys, threading
from creditsd_client import BlockingCredits

client = BlockingCredits(sys.argv[1], api_key=sys.argv[2])
stream = client.stream(sys.argv[3])
try:
    print(next(stream).credits, flush=True)
    next(stream)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(next(stream).credits, flush=True)
"""
    async with answering(installed, tmp_path) as url, asyncio.timeout(PATIENCE_SECONDS):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, url, KEY, ONE), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            assert await process.stdout.readline() == b"120\n"
            process.send_signal(signal.SIGINT)
            assert await process.stdout.readline() == b"interrupted\n"
            installed.database.run(f"UPDATE user_credits SET credits = credits + 1 WHERE user_id = '{ONE}'")
            assert await process.stdout.readline() == b"122\n"
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
