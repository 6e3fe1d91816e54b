"""Two installations that would write at one prefix: the second stands still, and says why."""

from __future__ import annotations

from typing import Any, cast

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks import Owned, make
from creditsd.sinks import redis as module
from tests.sinks.harness import VERSION, total
from tests.sinks.test_redis import opened
from tests.sinks.valkey import Valkey

FIRST, SECOND = "app.creditsd", "app.creditsd_images"


async def own(sink: object, owner: str) -> None:
    await cast("Owned", sink).own(owner)


async def test_the_second_installation_at_one_prefix_is_refused_with_what_to_do(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as first, opened(sink_valkey.url) as second:
        await own(first, FIRST)
        with pytest.raises(
            SinkUnavailable, match=r"is that of app\.creditsd .* this is app\.creditsd_images"
        ) as refused:
            await own(second, SECOND)
        assert "give this sink another prefix, or, where that one is gone, DEL creditsd:owner:credits:" in str(
            refused.value
        )
        sink_valkey.client().delete("creditsd:owner:credits:")  # as the line says
        await own(second, SECOND)


async def test_the_same_installation_takes_its_prefix_again_and_another_prefix_is_another(sink_valkey: Valkey) -> None:
    async with opened(sink_valkey.url) as one, opened(sink_valkey.url, prefix="images:") as other:
        for _ in range(2):
            await own(one, FIRST)
            await own(other, SECOND)
    assert sorted(sink_valkey.client().keys("*")) == ["creditsd:owner:credits:", "creditsd:owner:images:"]


async def test_what_an_installation_leaves_behind_ends_by_itself_and_delivering_renews_it(
    sink_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RENEW_SECONDS", 0.0)
    async with opened(sink_valkey.url) as sink:
        await own(sink, FIRST)
        assert 0 < sink_valkey.client().ttl("creditsd:owner:credits:") <= 86_400
        sink_valkey.client().delete("creditsd:owner:credits:")
        await sink.deliver([total()])
        assert sink_valkey.client().get("creditsd:owner:credits:") == FIRST
        sink_valkey.client().set("creditsd:owner:credits:", SECOND)  # another one took it while this one was frozen
        with pytest.raises(SinkUnavailable, match="another prefix"):
            await sink.deliver([total(version=VERSION + 1)])


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
