"""Where browser tests happen: a daemon behind a network that can fail, and pages of another origin."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Page, Request

import creditsd
from tests.acceptance.command import Running, environment, install, start
from tests.browser.shop import Shop
from tests.conftest import PATIENCE_SECONDS, Database
from tests.http.asking import SECRET, token
from tests.proxy import Proxy
from tests.servers import REFERENCE_TABLE, free_port

API_KEY = "a-server's-key-that-is-long-enough"

SOON: dict[str, Any] = {"maxRetryMs": 400}
"""Options of a client that comes back within a test's time."""

WATCHFUL: dict[str, Any] = {"silenceMs": 1500}
"""Options of one that also notices silence so soon; the daemon's heartbeats are quicker."""


SCRIPT = next(Path(creditsd.__file__).parent.glob("*/static/creditsd.js"))
"""The client, as the daemon serves it; here it comes from the pages, however bad the way to the daemon is."""


@dataclass(eq=False)
class Visitor:
    """Somebody at a browser of any kind, signed in."""

    user_id: str
    token_seconds: float = 3600
    fresh_tokens: int = 0

    def token(self, *, fresh: bool) -> str:
        self.fresh_tokens += fresh
        return token(self.user_id, seconds=self.token_seconds)


class Place:
    """A database, its daemon, the network before that, and a server of pages."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self._directory = directory
        self._ends = contextlib.AsyncExitStack()
        self._daemon: Running | None = None
        self.network = Proxy("127.0.0.1", 0)
        self.shop = Shop(database)
        self.visitors: dict[str, Visitor] = {}
        """Who asks for tokens over HTTP, as in browsers that know no function of a test."""
        self.example = directory / "example"
        """What is put here is served at /example/."""
        self.pages = ""
        self.applications = [free_port(), free_port()]
        """Where servers of applications may listen; their pages are let in."""

    async def __aenter__(self) -> Self:
        self.database.run(REFERENCE_TABLE)
        install(self.database.dsn)
        await self._ends.enter_async_context(self.network)
        self.pages = await self._ends.enter_async_context(self._served())
        self._ends.push_async_callback(self.stop)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ends.aclose()

    @property
    def api(self) -> str:
        """Where the daemon is reached, through the network."""
        return f"http://127.0.0.1:{self.network.port}"

    async def start(self) -> None:
        """Start the daemon; it has another port each time, and the network leads there."""
        settings = {
            "CREDITSD_DSN": self.database.dsn,
            "CREDITSD_HTTP__JWT_SECRET": SECRET,
            "CREDITSD_HTTP__JWT_LEEWAY_SECONDS": "0",
            "CREDITSD_HTTP__API_KEYS": API_KEY,
            "CREDITSD_HTTP__CORS_ORIGINS": json.dumps(
                [self.pages, *(f"http://127.0.0.1:{port}" for port in self.applications)]
            ),
            "CREDITSD_HTTP__HEARTBEAT_SECONDS": "0.3",
        }
        self._daemon = await start(self._directory, env=environment(**settings))
        self.network.lead_to("127.0.0.1", self._daemon.port)
        await self._daemon.until_ready()

    async def stop(self) -> None:
        """Stop the daemon as a deployment does."""
        if self._daemon is not None and not self._daemon.ended:
            await self._daemon.end(signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[str]:
        """Serve the pages and what they need of an application, and say their origin."""

        async def page(_: web.Request) -> web.FileResponse:
            return web.FileResponse(Path(__file__).with_name("page.html"))

        async def script(_: web.Request) -> web.FileResponse:
            return web.FileResponse(SCRIPT, headers={"Content-Type": "text/javascript"})

        async def hand_out(request: web.Request) -> web.Response:
            visitor = self.visitors[request.query["visitor"]]
            return web.Response(text=visitor.token(fresh=request.query["fresh"] == "true"))

        self.example.mkdir()
        application = web.Application()
        application.add_routes(
            [
                web.get("/", page),
                web.get("/creditsd.js", script),
                web.get("/token", hand_out),
                web.static("/example", self.example),
                *self.shop.routes(),
            ]
        )
        runner = web.AppRunner(application)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    def visitor(self, amount: int) -> Visitor:
        """Make a user who has so much, and sign them in."""
        made = Visitor(self.user(amount))
        self.visitors[made.user_id] = made
        return made

    async def streams_opened(self) -> int:
        """Say how many streams the daemon has opened since it was started."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.api}/metrics") as answer:
            found = re.search(r"^creditsd_streams_opened_total (\d+)", await answer.text(), re.MULTILINE)
            return int(found[1]) if found else 0

    def user(self, amount: int) -> str:
        """Make a user who has so much."""
        user_id = str(uuid.uuid4())
        self.database.run(
            "INSERT INTO user_credits (user_id, credits, status, plan_type, membership) "
            "VALUES (%s, %s, 'active', 'subscription', 'Pro')",
            [user_id, amount],
        )
        return user_id

    def change(self, user_id: str, amount: int) -> None:
        """Change what a user has, as the application does."""
        self.database.run("UPDATE user_credits SET credits = %s WHERE user_id = %s", [amount, user_id])


@dataclass(eq=False)
class Person:
    """Somebody at a browser of their own, signed in, with any number of tabs."""

    place: Place
    context: BrowserContext
    user_id: str
    token_seconds: float = 3600
    fresh_tokens: int = 0
    streams: list[Request] = field(default_factory=list)
    """Every stream that was asked for, in order."""

    async def sit_down(self) -> Self:
        """Be ready to open tabs."""
        await self.context.expose_function("token", self._token)
        self.context.on("request", self._asked)
        return self

    async def tab(self, *, clock: bool = False, **options: Any) -> Tab:
        """Open a tab with a client in it; with a clock that the test can put forward."""
        page = await self.context.new_page()
        if clock:
            await page.clock.install()
        await page.goto(f"{self.place.pages}/?api={self.place.api}")
        tab = Tab(page)
        await tab.until("window.ready")
        await page.evaluate("options => window.open_client(options)", SOON | options)
        return tab

    def _token(self, fresh: bool) -> str:
        self.fresh_tokens += fresh
        return token(self.user_id, seconds=self.token_seconds)

    def _asked(self, request: Request) -> None:
        if request.url.endswith("/stream") and request.method == "GET":
            self.streams.append(request)


class Tab:
    """One tab, and what its client shows."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def until(self, expression: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until an expression is true in the page, whether or not anybody can see it."""
        await self.page.wait_for_function(f"() => {expression}", timeout=seconds * 1000, polling=20)

    async def shows(self, amount: int, status: str = "live") -> None:
        """Wait until it shows so many credits, and stands so."""
        await self.until(f"state?.total?.credits === {amount} && state.status === '{status}'")

    async def seen(self) -> set[str]:
        """Say whose totals were ever shown."""
        return {user_id for user_id, _ in await self.page.evaluate("window.seen")}


@contextlib.asynccontextmanager
async def person(browser: Browser, place: Place, amount: int) -> AsyncIterator[Person]:
    """Seat a new user with so many credits before a browser profile of their own."""
    context = await browser.new_context()
    try:
        yield await Person(place, context, place.user(amount)).sit_down()
    finally:
        await context.close()


Seat = Callable[[int], contextlib.AbstractAsyncContextManager[Person]]
