"""The browsers and one daemon for all tests of a process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.engines import Chromium, Engine, Firefox, MissingError, WebKit, playwright_chromium
from tests.browser.place import Place, Seat, person
from tests.conftest import SERVERS, Servers, fresh_database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start the system's Chromium, headless."""
    async with contextlib.AsyncExitStack() as ends:
        try:
            started = await ends.enter_async_context(playwright_chromium())
        except MissingError as missing:
            pytest.skip(str(missing))
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["chromium", "firefox", "webkit"])
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """Start one engine after the other."""
    async with contextlib.AsyncExitStack() as ends:
        try:
            match request.param:
                case "chromium":
                    started: Engine = Chromium(await ends.enter_async_context(playwright_chromium()))
                case "firefox":
                    started = await ends.enter_async_context(Firefox.started(tmp_path_factory.mktemp("firefox")))
                case _:
                    started = await ends.enter_async_context(WebKit.started())
        except MissingError as missing:
            pytest.skip(str(missing))
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def place(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """Start the daemon."""
    with fresh_database(servers.get(SERVERS[0])) as database:
        async with Place(database, tmp_path_factory.mktemp("browser")) as made:
            yield made


@pytest.fixture
def seat(browser: Browser, place: Place) -> Seat:
    """Seat new users."""
    return functools.partial(person, browser, place)
