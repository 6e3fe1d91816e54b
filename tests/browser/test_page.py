"""The operator's page in a browser: opens with the key alone, shows what happens, and takes all text for text."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from playwright.async_api import Browser, Page

from creditsd.config.http_settings import HttpSettings
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import SinkUnavailable
from creditsd.http.operator import Timings
from creditsd.schema import install as schema
from tests.conftest import Database
from tests.integration.line import OTHER, USER, MemorySink, installed
from tests.integration.running import QUICK, running, until
from tests.servers import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPERATOR = "an operator's key, long enough"
FRAGMENT = f"#key={OPERATOR.replace(' ', '+')}"
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
ADD = "INSERT INTO user_credits (user_id, credits, status, membership) VALUES (%s, %s, 'active', %s)"


OFTEN = replace(QUICK, operator=Timings(look_seconds=0.1))


async def open_to_operators(database: Database) -> Settings:
    return await installed(database, http={"listen": f"127.0.0.1:{free_port()}", "operator_keys": [OPERATOR]})


@asynccontextmanager
async def led(settings: Settings, sink: MemorySink) -> AsyncIterator[tuple[Daemon, str]]:
    async with running(settings, sink, timings=OFTEN) as daemon:
        await until(daemon, "state", "leading")
        yield daemon, f"http://{settings.http.listen}/"


@asynccontextmanager
async def looking(browser: Browser, address: str, fragment: str = "") -> AsyncIterator[Page]:
    """Open a page; it must neither fail, nor be kept from something by its policy, nor ask anybody else."""
    wrong: list[str] = []
    page = await browser.new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith(address) else wrong.append(asked.url))
    await page.goto(address + fragment)
    yield page
    await page.close()
    assert wrong == []


async def test_the_key_opens_it_from_the_form_or_from_the_address(
    browser: Browser, reference_table18: Database
) -> None:
    async with led(await open_to_operators(reference_table18), MemorySink()) as (_, address):
        async with looking(browser, address) as page:
            await page.get_by_label("Key").fill("not it")
            await page.keyboard.press("Enter")
            await page.get_by_text("This is not the key.").wait_for()
            assert await page.locator("#room").is_hidden()
            await page.get_by_label("Key").fill(OPERATOR)
            await page.keyboard.press("Enter")
            await page.get_by_text("All is well").wait_for()
            await page.reload()
            await page.get_by_text("All is well").wait_for()
            await page.get_by_role("button", name="Forget the key").click()
            await page.get_by_label("Key").wait_for()
            assert await page.evaluate("sessionStorage.length") == 0
        async with looking(browser, address, FRAGMENT) as other:
            await other.get_by_text("All is well").wait_for()
            assert other.url == address


async def test_what_happens_is_shown_and_explained_and_refused_deliveries_are_tried_again(
    browser: Browser, reference_table18: Database
) -> None:
    settings = await open_to_operators(reference_table18)
    reference_table18.run(ADD, [USER, 5, HOSTILE])
    sink = MemorySink()
    async with led(settings, sink) as (_, address), looking(browser, address, FRAGMENT) as page:
        recent = page.locator("#recent li")
        await recent.get_by_text("5", exact=True).wait_for()
        reference_table18.run("UPDATE user_credits SET credits = 1234")
        await recent.get_by_text("1,234").wait_for()
        await recent.get_by_text("+1,229").wait_for()
        await page.locator("#rate").get_by_label(re.compile(r"[1-9]\d* at most")).wait_for()

        await recent.get_by_role("button").click()
        explained = page.locator("#explained")
        await explained.get_by_text("1,234").first.wait_for()
        assert HOSTILE in await explained.inner_text()
        assert "it is active and never ends" in await explained.inner_text()

        sink.refuses = {OTHER}
        reference_table18.run(ADD, [OTHER, 7, None])
        deliveries = page.locator("#deliveries")
        await deliveries.get_by_text("not today").wait_for()
        reference_table18.run("UPDATE creditsd.deliveries SET next_at = NULL, last_error = %s", [HOSTILE])
        await deliveries.get_by_text(HOSTILE).wait_for()
        await page.locator("#sentence").get_by_text("memory: 1 dead letter waits for you").wait_for()
        sink.refuses = set()
        await deliveries.get_by_role("button", name="Retry", exact=True).focus()
        await page.keyboard.press("Enter")
        await deliveries.get_by_text("will be tried now").wait_for()
        await deliveries.locator("article").wait_for(state="detached")
        assert sink.newest[OTHER].credits == 7

        sink.failure = SinkUnavailable(f"sink memory: {HOSTILE}")
        reference_table18.run("UPDATE user_credits SET credits = 6")
        await page.locator("#sentence").get_by_text("memory: stands still").wait_for()
        await page.locator("#sinks").get_by_text(HOSTILE).wait_for()
        sink.failure = None
        assert await page.title() == "creditsd"
        assert await page.locator("main script, main img").count() == 0


async def test_a_sink_is_paused_and_resumed_and_told_again_from_its_row(
    browser: Browser, reference_table18: Database
) -> None:
    settings = await open_to_operators(reference_table18)
    reference_table18.run(ADD, [USER, 5, None])
    sink = MemorySink()
    async with led(settings, sink) as (_, address), looking(browser, address, FRAGMENT) as page:
        row = page.locator("#sinks tr", has_text="memory").first
        said = page.locator("#sinks-said")
        await row.get_by_role("button", name="Pause").click()
        await row.get_by_text("paused").wait_for()
        await said.get_by_text("memory is paused").wait_for()
        reference_table18.run("UPDATE user_credits SET credits = 6")
        await row.get_by_role("button", name="Resume").click()
        await row.get_by_text("current").wait_for()
        await sink.until(lambda: sink.newest[USER].credits == 6)
        before = len(sink.totals)
        await row.get_by_role("button", name="Replay").click()
        await row.get_by_role("button", name="Really?").click()
        await said.get_by_text("memory is told everything again").wait_for()
        await sink.until(lambda: len(sink.totals) > before)
        await row.get_by_role("button", name="Test").click()
        await said.get_by_text("no configured sink is called 'memory'").wait_for()


async def test_it_comes_back_with_the_daemon_and_tells_which_one_leads(
    browser: Browser, reference_table18: Database
) -> None:
    reference_table18.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    settings = await open_to_operators(reference_table18)
    reference_table18.run(ADD, [USER, "12345678901234567890.5", None])
    async with led(settings, MemorySink()) as (_, address):
        page = await browser.new_page()
        await page.goto(address + FRAGMENT)
        await page.locator("#recent").get_by_text("12,345,678,901,234,567,890.5").wait_for()
        parsed = (
            "import('/page/api.js').then(({ parse }) => parse('[14.0, 0.5, 1e3, -7, 0.10, 12345678901234567890.5]'))"
        )
        assert await page.evaluate(parsed) == [14, 0.5, 1000, -7, 0.1, "12345678901234567890.5"]
    await page.get_by_text("reconnecting").wait_for()
    elsewhere = settings.model_copy(update={"http": HttpSettings(listen="")})
    async with running(elsewhere, MemorySink()) as leader:
        await until(leader, "state", "leading")
        async with running(settings, MemorySink()):
            await page.get_by_text("This daemon stands by. Another leads").wait_for()
            await page.locator("#light").get_by_text("live").wait_for()
    await page.close()


async def test_a_user_without_a_total_is_explained_by_what_is_wrong(
    browser: Browser, reference_table18: Database
) -> None:
    reference_table18.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    settings = await open_to_operators(reference_table18)
    async with led(settings, MemorySink()) as (_, address), looking(browser, address, FRAGMENT) as page:
        for _ in range(2):
            reference_table18.run(ADD, [USER, "9" * 131_072, None])
        await page.locator("#sentence").get_by_text("1 user is set aside").wait_for()
        await page.locator("#explain-user").fill(USER)
        await page.keyboard.press("Enter")
        await page.locator("#explained").get_by_text("not summed: value overflows").wait_for()


async def test_what_could_hide_a_change_stands_on_top_until_it_is_mended(
    browser: Browser, reference_table18: Database
) -> None:
    settings = await open_to_operators(reference_table18)
    async with led(settings, MemorySink()) as (_, address), looking(browser, address, FRAGMENT) as page:
        await page.get_by_text("All is well").wait_for()
        reference_table18.run("ALTER TABLE user_credits DISABLE TRIGGER ALL")
        said = "Somebody must mend this: triggers are disabled on public.user_credits: run `creditsd install`."
        await page.get_by_text(said).wait_for()
        assert await page.locator("body").get_attribute("data-state") == "hindered"
        await schema.install(settings)
        await page.get_by_text("All is well").wait_for()
