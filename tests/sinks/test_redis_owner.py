"""Two installations that would write at one prefix: the second stands still, and says why."""

from __future__ import annotations

from typing import Any, cast

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks import Owned, make
from tests.sinks.harness import total
from tests.sinks.test_redis import opened
from tests.sinks.valkey import Valkey

FIRST, SECOND = "creditsd", "creditsd_images"


async def own(sink: object, owner: str) -> None:
    await cast("Owned", sink).own(owner)


async def test_the_second_installation_at_one_prefix_is_refused_with_what_to_do(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as first, opened(sink_valkey.url) as second:
        await own(first, FIRST)
        for _ in range(2):
            with pytest.raises(SinkUnavailable, match="creditsd writes at the prefix 'credits:' already") as refused:
                await own(second, SECOND)
            assert str(refused.value).endswith("and this is creditsd_images: give this sink another prefix")
        await own(first, FIRST)  # whoever was refused holds nobody up
        assert await first.deliver([total()]) == []
    assert sink_valkey.client().dbsize() == 1


async def test_one_that_is_gone_holds_nobody_up(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as second:
        async with opened(sink_valkey.url) as first:
            await own(first, FIRST)
        await own(second, SECOND)


async def test_another_prefix_another_database_and_one_of_the_same_name_pass(sink_valkey: Valkey) -> None:
    elsewhere = sink_valkey.url.removesuffix("/0") + "/1"
    async with (
        opened(sink_valkey.url, prefix="my credits:") as first,
        opened(sink_valkey.url, prefix="my images:") as second,
        opened(elsewhere, prefix="my credits:") as third,
        opened(sink_valkey.url, prefix="my credits:") as again,
    ):
        await own(first, FIRST)
        await own(second, SECOND)
        await own(third, SECOND)
        await own(again, FIRST)


async def test_a_connection_that_was_lost_is_named_anew_when_it_is_opened(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as first, opened(sink_valkey.url) as second:
        await own(first, FIRST)
        sink_valkey.client().client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(SinkUnavailable):
            await first.deliver([total()])
        await first.open()
        await own(first, FIRST)
        await second.open()
        with pytest.raises(SinkUnavailable, match="another prefix"):
            await own(second, SECOND)


async def test_a_user_that_may_not_ask_delivers_all_the_same(sink_valkey: Valkey) -> None:
    rights: list[Any] = ["+evalsha", "+script|load", "+get", "+set", "+publish"]
    sink_valkey.client().execute_command("ACL", "SETUSER", "bound", "on", ">pw", "~credits:*", "&credits:*", *rights)
    url = sink_valkey.url.replace("redis://", "redis://bound:pw@", 1)
    sink = make(SinkSettings(name="cache", url=url))
    try:
        await sink.open()
        await own(sink, FIRST)
        assert await sink.deliver([total()]) == []
    finally:
        await sink.close()
        sink_valkey.client().execute_command("ACL", "DELUSER", "bound")
