"""What people do by hand at a place of a Redis where another installation writes: nothing of it is touched."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest
import redis.asyncio as redis

from creditsd.admin.doctor import Finding, examine
from creditsd.admin.forget import Eraser
from creditsd.admin.sinks import SinkControl
from creditsd.config.settings import Settings, SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.domain.owner import Owner
from creditsd.sinks import Owned, make
from tests.conftest import Database, eventually
from tests.integration.line import USER, MemorySink, configured
from tests.integration.play import ADD
from tests.integration.running import running
from tests.servers import Valkey

THEIRS = "writes at the prefix 'credits:' already"


@contextlib.asynccontextmanager
async def another(valkey: Valkey) -> AsyncIterator[None]:
    """Have another installation write at the prefix."""
    sink = make(SinkSettings(name="theirs", url=valkey.url))
    cast("Owned", sink).own(Owner("creditsd_images", "1.1"))
    try:
        await sink.open()
        yield
    finally:
        await sink.close()


@pytest.fixture
def settings(installation: Database, valkey: Valkey) -> Settings:
    return configured(installation, sinks=[{"name": "cache", "url": valkey.url}])


async def found(settings: Settings) -> list[Finding]:
    return [each async for each in examine(settings) if each.about == "sink cache"]


async def test_forget_leaves_what_another_installation_has_written(settings: Settings, valkey: Valkey) -> None:
    async with redis.from_url(valkey.url) as client:
        await client.set(f"credits:{USER}", "theirs")
        async with another(valkey), Eraser.opened(settings) as eraser:
            (reached,) = (await eraser.forget(USER)).sinks
        assert (reached.outcome, THEIRS in reached.said) == ("unreachable", True)
        assert await client.get(f"credits:{USER}") == b"theirs"


async def test_a_test_message_is_not_sent_where_another_installation_writes(settings: Settings, valkey: Valkey) -> None:
    async with another(valkey), SinkControl.opened(settings) as control, redis.from_url(valkey.url) as client:
        with pytest.raises(SinkUnavailable, match=THEIRS):
            await control.test("cache")
        assert await client.dbsize() == 0


async def test_doctor_names_the_installation_that_has_the_prefix(settings: Settings, valkey: Valkey) -> None:
    async with another(valkey):
        (finding,) = await found(settings)
    assert finding.level == "problem"
    assert THEIRS in finding.said


async def test_beside_the_daemon_of_the_same_installation_all_of_it_goes_on(
    settings: Settings, installation: Database, valkey: Valkey
) -> None:
    installation.run(ADD, [USER, 5])
    async with running(settings, MemorySink()), redis.from_url(valkey.url) as client:
        await eventually(lambda: client.exists(f"credits:{USER}"))
        (finding,) = await found(settings)
        assert (finding.level, finding.said) == ("good", "it can be reached")
        async with SinkControl.opened(settings) as control:
            await control.test("cache")
        installation.run("DELETE FROM user_credits")
        async with Eraser.opened(settings) as eraser:
            reached = {each.sink: each.outcome for each in (await eraser.forget(USER)).sinks}
        assert reached["cache"] == "erased"
