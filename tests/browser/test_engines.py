"""The JavaScript client in Chromium, Firefox and WebKit: the same scenarios in each."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.browser.engines import Engine, Profile, Window
from tests.browser.middlemen import relaying, withholding
from tests.browser.place import SOON, WATCHFUL, Place, Visitor
from tests.conftest import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Tab:
    """One tab of any browser, and what its client shows."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.close = window.close

    async def until(self, expression: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Look until an expression is true in the page."""

        async def so() -> bool:
            return bool(await self.window.evaluate(f"Boolean({expression})"))

        await eventually(so, seconds=seconds)

    async def shows(self, amount: int, status: str = "live") -> None:
        """Wait until it shows so many credits, and stands so."""

        async def shown() -> Any:
            return await self.window.evaluate("window.state && [state.total?.credits, state.status]")

        await eventually(shown, lambda now: now == [amount, status])

    async def says(self, expression: str) -> Any:
        return await self.window.evaluate(expression)


async def tab(profile: Profile, place: Place, visitor: Visitor, *, api: str | None = None, **options: Any) -> Tab:
    """Open a tab with a client in it."""
    made = Tab(await profile.open(f"{place.pages}/?api={api or place.api}&visitor={visitor.user_id}"))
    await made.until("window.ready")
    await made.says(f"open_client({json.dumps(SOON | options)})")
    return made


async def test_tabs_share_one_connection_know_how_many_they_are_and_take_over(place: Place, engine: Engine) -> None:
    ann = place.visitor(100)
    opened = await place.streams_opened()
    async with engine.profile() as profile:
        first, second = await tab(profile, place, ann), await tab(profile, place, ann)
        for each in (first, second):
            await each.shows(100)
            await each.until("state.tabs === 2")
        assert await place.streams_opened() == opened + 1
        assert [await each.says("state.leading") for each in (first, second)] == [True, False]
        place.change(ann.user_id, 90)
        await first.shows(90)
        await second.shows(90)
        await first.close()
        place.change(ann.user_id, 80)
        await second.shows(80)
        await second.until("state.leading && state.tabs === 1")


async def test_another_user_is_noticed_by_every_tab_and_signing_out_clears_them_all(
    place: Place, engine: Engine
) -> None:
    ann, bob = place.visitor(100), place.visitor(7)
    async with engine.profile() as profile:
        tabs = [await tab(profile, place, ann), await tab(profile, place, ann)]
        for each in tabs:
            await each.shows(100)
        was, ann.user_id = ann.user_id, bob.user_id
        await tabs[0].says("client.restart()")
        for each in tabs:
            await each.shows(7)
            await each.says("seen.length = 0")
        place.change(was, 102)
        place.change(bob.user_id, 8)
        for each in tabs:
            await each.shows(8)
            assert {user_id for user_id, _ in await each.says("seen")} == {bob.user_id}
        kept = await tabs[0].says("JSON.stringify(localStorage)")
        assert bob.user_id in kept
        assert was not in kept
        await tabs[1].says("client.signOut()")
        for each in tabs:
            await each.until("state.total === null && state.status === 'signed_out'")
        await tabs[0].until("localStorage.length === 0")


async def test_without_a_network_the_last_total_stays_and_with_it_the_newest_comes(
    place: Place, engine: Engine
) -> None:
    ann = place.visitor(100)
    async with engine.profile() as profile:
        page = await tab(profile, place, ann, **WATCHFUL)
        await page.shows(100)
        await place.network.cut()
        await page.shows(100, "offline")
        await page.says(f"(client.close(), window.state = null, open_client({json.dumps(SOON | WATCHFUL)}))")
        await page.shows(100, "offline")
        place.change(ann.user_id, 90)
        await place.network.restore()
        await page.shows(90)
        await place.network.freeze()
        await page.until("state.status !== 'live'")
        place.change(ann.user_id, 80)
        await place.network.restore()
        await page.shows(80)


async def test_a_tab_put_to_sleep_hands_over_and_is_current_when_it_wakes(place: Place, engine: Engine) -> None:
    ann = place.visitor(100)
    async with engine.profile() as profile:
        first, second = await tab(profile, place, ann), await tab(profile, place, ann)
        await first.shows(100)
        await second.shows(100)
        await first.says("document.dispatchEvent(new Event('freeze'))")
        place.change(ann.user_id, 90)
        await second.shows(90)
        assert await first.says("state.total.credits") == 100
        await first.says("document.dispatchEvent(new Event('resume'))")
        await first.shows(90)


async def test_a_restart_of_the_daemon_is_a_pause(place: Place, engine: Engine) -> None:
    ann = place.visitor(100)
    async with engine.profile() as profile:
        page = await tab(profile, place, ann)
        await page.shows(100)
        await place.stop()
        await page.until("state.status !== 'live'")
        place.change(ann.user_id, 90)
        await place.start()
        await page.shows(90)


async def test_a_token_is_renewed_before_it_ends_without_a_gap(place: Place, engine: Engine) -> None:
    ann = place.visitor(100)
    ann.token_seconds = 20  # renewed when a quarter is left: time enough for a busy browser
    async with engine.profile() as profile:
        page = await tab(profile, place, ann)
        await page.shows(100)
        opened = await place.streams_opened()
        ann.token_seconds = 3600
        await page.says("statuses.length = 0")

        async def another() -> bool:
            return await place.streams_opened() > opened

        await eventually(another)
        place.change(ann.user_id, 90)
        await page.shows(90)
        assert set(await page.says("statuses")) == {"live"}
        assert ann.fresh_tokens == 1


async def test_spending_is_seen_at_once_and_its_confirmation_is_not(place: Place, engine: Engine) -> None:
    ann = place.visitor(100)
    async with engine.profile() as profile:
        page = await tab(profile, place, ann)
        await page.shows(100)
        await page.says("seen.length = 0")
        await page.says("[client.optimistic(-5), client.optimistic(-5)].length")
        place.change(ann.user_id, 95)
        await page.until("state.confirmed.credits === 95")
        place.change(ann.user_id, 90)
        await page.until("state.confirmed.credits === 90 && !state.pending")
        shown = [amount for _, amount in await page.says("seen")]
        assert [amount for amount, before in zip(shown, [100, *shown], strict=False) if amount != before] == [95, 90]


async def test_whatever_stands_between_the_number_is_there_and_right(
    place: Place, engine: Engine, request: pytest.FixtureRequest
) -> None:
    cut_seconds = 20 if "chromium" in request.node.name else 8
    async with AsyncExitStack() as ends:
        profile = await ends.enter_async_context(engine.profile())
        ways = {
            "withholds": withholding(lambda: place.api),
            "cuts": relaying(lambda: place.api, cut_seconds=cut_seconds),
            "late": relaying(lambda: place.api, late_seconds=2),
        }
        people, tabs = {}, {}
        for name, way in ways.items():
            people[name] = place.visitor(100)
            api = await ends.enter_async_context(way)
            # With the times that a page has which says nothing.
            tabs[name] = await tab(profile, place, people[name], api=api, maxRetryMs=30_000)
            await tabs[name].shows(100, "polling" if name == "withholds" else "live")
        # Until one of them has been cut off, with changes before and after.
        clock = asyncio.get_running_loop()
        changes = iter(range(99, 0, -1))
        while (amount := next(changes)) > 97 or not await tabs["cuts"].says("statuses.includes('connecting', 2)"):
            for person in people.values():
                place.change(person.user_id, amount)
            changed = clock.time()
            await asyncio.gather(*(page.until(f"state.total.credits === {amount}") for page in tabs.values()))
            await asyncio.sleep(max(0.0, changed + 3.1 - clock.time()))  # the pace of the changes
        assert await tabs["withholds"].says("state.error") is None
