"""The demo's shop in a browser, beside the operator's page: one press, and every tab changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser

from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.demo import furnish
from creditsd.demo.people import YOU, population
from creditsd.demo.shop import ACTS, BESIDE, Shop
from creditsd.postgres.connections import connected
from creditsd.schema.install import install
from tests.conftest import Database
from tests.integration.line import configured
from tests.integration.running import until
from tests.servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPERATOR = "an-operators-key-long-enough"
SECRET = "a secret of sixty-four bytes, as long as the digest of HS256 is."
PEOPLE = population()[:3]


@asynccontextmanager
async def shopping(database: Database) -> AsyncIterator[str]:
    """Furnish the demo's tables, and run its daemon without any traffic but ours."""
    listen = f"127.0.0.1:{free_port()}"
    http = {"listen": listen, "operator_keys": [OPERATOR], "jwt_secret": SECRET}
    settings: Settings = configured(database, http=http)
    async with connected(settings.dsn, purpose="test shop") as till:
        await furnish(till, PEOPLE)
        await install(settings)
        daemon = Daemon(settings, parts=[Shop(till, PEOPLE, SECRET)], beside=BESIDE)
        task = asyncio.create_task(daemon.run())
        try:
            await until(daemon, "state", "leading")
            yield f"http://{listen}/"
        finally:
            daemon.stop()
            await task


async def pressed(address: str, body: Any, headers: Mapping[str, str]) -> int:
    """Press *spend* without the page, as somebody else's would; return the status."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{address}demo/spend", **body, headers=headers) as said,
    ):
        return said.status


async def test_a_press_in_the_shop_changes_every_tab(
    browser: Browser, database18: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTS, "expire", ("run_out", {"seconds": 0.5}))
    async with shopping(database18) as address:
        context = await browser.new_context()
        page, tab = await context.new_page(), await context.new_page()
        await page.goto(f"{address}#key={OPERATOR}")
        assert page.url == address
        shop = page.frame_locator("#beside-frame")
        await tab.goto(f"{address}shop")
        tabs = [shop.locator("#credits"), tab.locator("#credits")]
        for shown in tabs:
            await shown.get_by_text("250", exact=True).wait_for()
        await shop.locator("#light").get_by_text("live").wait_for()
        await shop.get_by_role("button", name="Spend 5").click()
        for shown in tabs:
            await shown.get_by_text("245", exact=True).wait_for()
        await page.locator(f'#recent [title="Explain {YOU}"]').wait_for()
        await tab.get_by_role("button", name="Buy 50").click()
        for shown in tabs:
            await shown.get_by_text("295", exact=True).wait_for()
        await tab.get_by_role("button", name="Expire").click()
        for shown in tabs:
            await shown.get_by_text("245", exact=True).wait_for()
        await context.close()


async def test_no_other_page_presses_in_the_shop(database18: Database) -> None:
    whose = {"user_id": str(YOU)}
    async with shopping(database18) as address:
        assert await pressed(address, {"json": whose}, {"Sec-Fetch-Site": "cross-site"}) == 403
        assert await pressed(address, {"data": "{}"}, {"Content-Type": "text/plain"}) == 403
        assert await pressed(address, {"json": {"user_id": str(population()[50].user_id)}}, {}) == 400
        assert await pressed(address, {"json": [1]}, {}) == 400
        assert await pressed(address, {"json": whose}, {"Sec-Fetch-Site": "same-origin"}) == 200
        assert database18.run("SELECT credits FROM user_credits WHERE id = 1") == [(245,)]
