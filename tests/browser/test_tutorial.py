"""docs/tutorial.md, followed by somebody who types what stands there and looks at the page."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from playwright.async_api import Browser, expect

from tests.conftest import SERVERS, Database, Servers, eventually, fresh_database
from tests.servers import free_port, versions

pytestmark = pytest.mark.asyncio(loop_scope="session")
expect.set_options(timeout=20_000)

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- run: (\w+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))


class Newcomer:
    """Somebody with a shell in an empty folder; what the page calls by name is where the tests have it."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self.api, self.pages = free_port(), free_port()
        self._dsn = database.dsn
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), str(next(iter(versions().values()))), os.environ["PATH"]]
        )
        self._environment = {"PATH": path, "HOME": str(folder), "PYTHONUNBUFFERED": "1"}

    def block(self, name: str) -> str:
        """Return what the page says there."""
        text = BLOCKS[name].replace("postgresql://localhost/app", self._dsn)
        text = text.replace("8321", str(self.api)).replace("8000", str(self.pages))
        return str(text.replace("psql app", f"psql {shlex.quote(self._dsn)}"))

    def type(self, name: str) -> str:
        """Run a block to its end, and return what it printed."""
        done = subprocess.run(
            ["/bin/sh", "-ec", self.block(name)],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def typing(self, name: str) -> Iterator[None]:
        """Run a block's only line until the end of ours."""
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self.block(name).strip()}"],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
            try:
                yield
            finally:
                process.terminate()
                process.wait()


@pytest.fixture
def newcomer(servers: Servers, tmp_path: Path) -> Iterator[Newcomer]:
    with fresh_database(servers.get(SERVERS[0])) as database:
        made = Newcomer(tmp_path, database)
        database.psql(made.block("table"))
        (tmp_path / "creditsd.toml").write_text(made.block("settings"))
        (tmp_path / "index.html").write_text(made.block("page"))
        yield made


async def answered(newcomer: Newcomer) -> dict[str, object]:
    async def ask() -> dict[str, object]:
        try:
            return dict(orjson.loads(newcomer.type("token")))
        except (AssertionError, orjson.JSONDecodeError):  # the daemon is about to start
            return {}

    return await eventually(ask, lambda answer: "data" in answer)  # before it knows everybody, it says so


async def test_the_tutorial_ends_with_a_number_that_moves(newcomer: Newcomer, browser: Browser) -> None:
    total = orjson.loads(newcomer.type("install").splitlines()[-1])["data"]
    assert (total["credits"], total["planType"]) == (120, "subscription")
    with newcomer.typing("serve"):
        page = await browser.new_page()
        try:
            with newcomer.typing("daemon"):
                assert (await answered(newcomer))["data"]["credits"] == 120  # type: ignore[index]
                await page.goto(f"http://localhost:{newcomer.pages}")
                await expect(page.locator("#credits")).to_have_text("120")
                await expect(page.locator("#status")).to_have_text("live")
                newcomer.type("change")
                await expect(page.locator("#credits")).to_have_text("115")
            await expect(page.locator("#status")).not_to_have_text("live")
            newcomer.type("change")
            await expect(page.locator("#credits")).to_have_text("115")
            with newcomer.typing("daemon"):
                await expect(page.locator("#credits")).to_have_text("110")
                newcomer.type("end")
                await expect(page.locator("#credits")).to_have_text("100")
        finally:
            await page.close()
