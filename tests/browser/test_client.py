"""The JavaScript client in Chromium: what only its debugger can do to a page. The rest is in `test_engines.py`."""

from __future__ import annotations

import pytest

from tests.browser.place import SOON, WATCHFUL, Place, Seat
from tests.conftest import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_without_a_network_the_last_total_stays_and_with_it_the_newest_comes(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        tab = await ann.tab()
        await tab.shows(100)
        await ann.context.set_offline(True)
        await tab.shows(100, "offline")
        await tab.page.evaluate("options => (client.close(), state = null, open_client(options))", SOON)
        await tab.shows(100, "offline")
        place.change(ann.user_id, 90)
        await ann.context.set_offline(False)
        await tab.shows(90)


async def test_a_tab_that_hangs_is_relieved(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        first, second = await ann.tab(**WATCHFUL), await ann.tab(**WATCHFUL)
        await first.shows(100)
        await second.shows(100)
        debugger = await ann.context.new_cdp_session(first.page)
        await debugger.send("Debugger.enable")
        await debugger.send("Debugger.pause")
        place.change(ann.user_id, 90)
        await second.shows(90)
        await debugger.send("Debugger.disable")
        await first.shows(90)
        place.change(ann.user_id, 80)
        await first.shows(80)
        await second.shows(80)


async def test_after_an_hour_asleep_an_old_connection_is_not_trusted(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        tab = await ann.tab(silenceMs=60_000, clock=True)
        await tab.shows(100)
        await tab.page.clock.fast_forward(3_600_000)
        place.change(ann.user_id, 90)
        await tab.shows(90)
        assert len(ann.streams) == 2


async def test_an_expired_token_is_replaced_without_anybody_noticing(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        ann.token_seconds = 2
        tab = await ann.tab()
        await tab.shows(100)

        async def fresh_tokens() -> int:
            ann.token_seconds = 3600
            return ann.fresh_tokens

        await eventually(fresh_tokens)
        place.change(ann.user_id, 90)
        await tab.shows(90)
        assert await tab.page.evaluate("state.error") is None
