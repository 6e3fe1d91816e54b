"""Users whose deliveries are refused may stand together, more of them than make a sink ill: the others are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from aiohttp import web

from tests.conftest import Database
from tests.integration.line import Line, user
from tests.integration.publishing import ADD, QUICK, Publishing, current, newest, waiting
from tests.sinks.webhook_harness import Receiver


@pytest.mark.parametrize(
    ("answered", "options"),
    [
        ((404, 100), {}),
        ((500, 100), {}),
        ((404, 25), {"per_second": 10}),
        ((500, 6), {"per_second": 4}),
        ((500, 8), {"per_second": 4, "batch": 2}),
    ],
    ids=str,
)
async def test_users_who_are_refused_next_to_each_other_stop_nobody_behind_them(
    installation: Database,
    line: Line,
    publishing: Publishing,
    answered: tuple[int, int],
    options: dict[str, int],
) -> None:
    status, ill = answered
    refused, others = {user(number) for number in range(ill)}, {user(1000 + number) for number in range(5)}
    for part in (refused, others):  # of the first each version is lower
        for name in sorted(part):
            installation.run(ADD, [name, 1])
        await line.settle()
    receiver = Receiver()
    await receiver.start()
    told: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        data = json.loads(await request.read())["data"]
        users = {each["user_id"] for each in data.get("totals", [data])}
        if users & refused:
            return web.Response(status=status)
        told.update(users)
        return web.Response()

    receiver.answer = answer
    timings = replace(QUICK, retry_delays_seconds=(3600.0,))
    try:
        async with publishing(receiver.make(**options), newest=await newest(line), timings=timings) as publisher:
            await current(publisher)
            assert publisher.error is None
            assert told == others
            assert await waiting(installation)() == ill
    finally:
        await receiver.stop()
