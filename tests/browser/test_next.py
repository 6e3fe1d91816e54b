"""Next.js: the example, and a fresh application with nothing but the lines of the package's README."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from tests.browser import next_app
from tests.browser.next_app import CLIENT, EXAMPLE, built, html, npm, served, unpacked
from tests.browser.place import API_KEY, Place
from tests.browser.test_example import picture
from tests.http.asking import token

pytestmark = pytest.mark.asyncio(loop_scope="session")
expect.set_options(timeout=20_000)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    next_app.node()
    return await next_app.packed(tmp_path_factory.mktemp("pack"))


def watched(page: Page) -> list[str]:
    """Collect what the browser complains of."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    # No icon, and no history where the daemon keeps none, are 404: a browser writes that down.

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and "404" not in message.text:
            wrong.append(message.text)

    page.on("console", said)
    return wrong


async def test_the_example_has_the_number_in_its_html_and_spends_it_live(
    place: Place, browser: Browser, tarball: Path
) -> None:
    unpacked(tarball, EXAMPLE)
    await built(EXAMPLE, {"NEXT_PUBLIC_CREDITSD_URL": place.api})
    ada = place.visitor(130).user_id
    place.shop.customers[ada] = "Ada L."
    env = {"CREDITSD_URL": place.api, "SHOP_URL": place.pages, "CREDITSD_API_KEY": API_KEY}
    async with served(EXAMPLE, place.applications[0], env) as address:
        page_text = await html(address, {"customer": ada})
        assert re.search(r"<output>130</output>", page_text), page_text[-3000:]
        context = await browser.new_context()
        page, second = await context.new_page(), await context.new_page()
        wrong = watched(page)
        await page.goto(address)
        await page.get_by_label("Customer").select_option("Ada L.")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("output")).to_have_text("130")
        await expect(page.locator(".light")).to_have_text("live")
        await second.goto(address)
        await expect(page.locator(".light")).to_have_text("live, 2 tabs share one connection")
        await page.get_by_role("button", name="Print for 5").click()
        for each in (page, second):
            await expect(each.locator("output")).to_have_text("125")
        place.change(ada, 480)
        for each in (page, second):
            await expect(each.locator("output")).to_have_text("480")
        await expect(page.locator(".trend li b").first).to_have_text("480")
        await picture(page, "example-next", width=560, height=620)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await expect(second.locator("output")).to_have_text("…")
        assert wrong == []
        await context.close()


LAYOUT = """
export default function Layout({ children }: { children: React.ReactNode }) {
  return <html lang="en"><body>{children}</body></html>;
}
"""


async def test_a_fresh_application_with_the_lines_of_the_readme_is_live(
    place: Place, browser: Browser, tarball: Path, tmp_path: Path
) -> None:
    files = dict(re.findall(r"^```tsx (\S+)\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL))
    assert len(files) == 4
    ann = place.visitor(100).user_id
    who = json.dumps({"id": ann, "token": token(ann, seconds=3600)})
    files |= {
        "app/layout.tsx": LAYOUT,
        "app/session.ts": f"export async function session() {{ return {who}; }}\n",
        ".env.local": f"NEXT_PUBLIC_CREDITSD_URL={place.api}\nCREDITSD_API_KEY={API_KEY}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        await asyncio.to_thread(shutil.copy, EXAMPLE / name, tmp_path)
    await npm("install", "--silent", "--ignore-scripts", "--prefer-offline", str(tarball), cwd=tmp_path)
    await built(tmp_path, {})
    async with served(tmp_path, place.applications[1], {}) as address:
        assert "100<!-- --> credits" in await html(address) or "100 credits" in await html(address)
        page = await browser.new_page()
        wrong = watched(page)
        await page.goto(address)
        await expect(page.locator("p[data-live=true]")).to_have_text("100 credits")
        place.change(ann, 90)
        await expect(page.locator("p")).to_have_text("90 credits")
        assert wrong == []
        await page.close()
