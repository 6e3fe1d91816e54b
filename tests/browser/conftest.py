"""One browser and one daemon for all tests of a process."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.place import Place, Seat, person
from tests.conftest import SERVERS, Servers, fresh_database

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start the system's Chromium, headless."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the PATH: apt-get install chromium")
    # As root it refuses to start inside its own sandbox; /dev/shm of a container is too small for it.
    options = ["--disable-dev-shm-usage"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        await started.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def place(browser: Browser, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Start the daemon; after the browser, so that without one nothing is started."""
    with fresh_database(servers.get(SERVERS[0])) as database:
        async with Place(database, tmp_path_factory.mktemp("browser")) as made:
            yield made


@pytest.fixture
def seat(browser: Browser, place: Place) -> Seat:
    """Seat new users."""
    return functools.partial(person, browser, place)
