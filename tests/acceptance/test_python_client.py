"""The Python client against the daemon itself: restarts, tokens that run out, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from creditsd_client import (
    Credits,
    ForbiddenError,
    NotFoundError,
    ReplacedError,
    Stream,
    UnauthorizedError,
    UnavailableError,
)
from tests.acceptance.command import environment, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.conftest import eventually
from tests.feeding import broker, publish
from tests.live.asking import KEY, SECRET, token
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
