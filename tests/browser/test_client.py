"""The JavaScript client in a real browser: several tabs, several users, and everything that happens to a laptop."""

from __future__ import annotations

import pytest

from tests.browser.place import SOON, WATCHFUL, Place, Seat
from tests.conftest import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_tabs_share_one_connection_and_one_takes_over_from_the_other(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        first, second = await ann.tab(), await ann.tab()
        await first.shows(100)
        await second.shows(100)
        assert len(ann.streams) == 1
        place.change(ann.user_id, 90)
        await first.shows(90)
        await second.shows(90)
        await first.page.close()
        place.change(ann.user_id, 80)
        await second.shows(80)
        assert len(ann.streams) == 2


async def test_two_users_never_see_each_others_number(place: Place, seat: Seat) -> None:
    async with seat(100) as ann, seat(7) as bob:
        at_ann, second, at_bob = await ann.tab(), await ann.tab(), await bob.tab()
        await at_ann.shows(100)
        await second.shows(100)
        await at_bob.shows(7)
        place.change(ann.user_id, 101)
        place.change(bob.user_id, 8)
        await at_ann.shows(101)
        await at_bob.shows(8)
        assert (await at_ann.seen(), await at_bob.seen()) == ({ann.user_id}, {bob.user_id})

        # Bob signs in at Ann's browser: the page says so in one tab, and the other hears of it.
        was, ann.user_id = ann.user_id, bob.user_id
        await at_ann.page.evaluate("client.restart()")
        for tab in (at_ann, second):
            await tab.shows(8)
            await tab.page.evaluate("seen.length = 0")
        place.change(was, 102)
        place.change(bob.user_id, 9)
        for tab in (at_ann, second, at_bob):
            await tab.shows(9)
            assert await tab.seen() == {bob.user_id}
        kept = await at_ann.page.evaluate("JSON.stringify(localStorage)")
        assert bob.user_id in kept
        assert was not in kept


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


async def test_a_cut_and_a_frozen_connection_are_noticed_and_mended(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        tab = await ann.tab(**WATCHFUL)
        await tab.shows(100)
        await place.network.cut()
        await tab.shows(100, "offline")
        place.change(ann.user_id, 90)
        await place.network.restore()
        await tab.shows(90)
        await place.network.freeze()
        await tab.until("state.status !== 'live'")
        place.change(ann.user_id, 80)
        await place.network.restore()
        await tab.shows(80)


async def test_a_tab_put_to_sleep_hands_over_and_is_current_when_it_wakes(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        first, second = await ann.tab(), await ann.tab()
        await first.shows(100)
        await second.shows(100)
        # Said to the page as the browser says it: without a screen it takes every tab for visible, and freezes none.
        await first.page.evaluate("document.dispatchEvent(new Event('freeze'))")
        place.change(ann.user_id, 90)
        await second.shows(90)
        assert await first.page.evaluate("state.total.credits") == 100
        await first.page.evaluate("document.dispatchEvent(new Event('resume'))")
        await first.shows(90)
        assert len(ann.streams) == 2


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


async def test_a_restart_of_the_daemon_is_a_pause(place: Place, seat: Seat) -> None:
    async with seat(100) as ann:
        tab = await ann.tab()
        await tab.shows(100)
        await place.stop()
        await tab.until("state.status !== 'live'")
        place.change(ann.user_id, 90)
        await place.start()
        await tab.shows(90)


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
