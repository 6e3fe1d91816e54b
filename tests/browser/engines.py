"""Three browser engines behind one small interface: Chromium, Firefox and WebKit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp
from playwright.async_api import Browser, async_playwright

from tests.conftest import eventually
from tests.servers import free_port

START_SECONDS = 30
OPEN_SECONDS, TRIES = 60, 3


class MissingError(Exception):
    """The engine is not on this machine; the message says what brings it."""


class Window(Protocol):
    """One tab."""

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, await what it gives, and return it by way of JSON."""
        ...

    async def close(self) -> None: ...


class Profile(Protocol):
    """A browser of somebody: what its tabs keep and share is shared with no other."""

    async def open(self, url: str) -> Window: ...


class Engine(Protocol):
    def profile(self) -> contextlib.AbstractAsyncContextManager[Profile]: ...


def wrapped(expression: str) -> str:
    """Write an expression so that its value travels as text."""
    return f"Promise.resolve({expression}).then((value) => JSON.stringify(value === undefined ? null : value))"


def chromium_command() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.asynccontextmanager
async def playwright_chromium() -> AsyncIterator[Browser]:
    """Start the system's Chromium, headless."""
    command = chromium_command()
    if command is None:
        raise MissingError("there is no chromium on the PATH: apt-get install chromium")
    # As root it refuses to start inside its own sandbox; /dev/shm of a container is too small for it.
    options = ["--disable-dev-shm-usage"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=command, args=options)
        yield started
        await started.close()


class Chromium:
    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @contextlib.asynccontextmanager
    async def profile(self) -> AsyncIterator[Profile]:
        context = await self._browser.new_context()

        class Opened:
            async def open(self, url: str) -> Window:
                page = await context.new_page()
                await page.goto(url)

                class Tab:
                    async def evaluate(self, expression: str) -> Any:
                        return json.loads(await page.evaluate(wrapped(expression)))

                    async def close(self) -> None:
                        await page.close()

                return Tab()

        yield Opened()
        await context.close()


@contextlib.asynccontextmanager
async def ended(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.subprocess.Process]:
    """End a process that this test has started."""
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(60):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


class Firefox:
    """Firefox speaks WebDriver BiDi itself: no driver stands between."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, directory: Path) -> AsyncIterator[Self]:
        command = shutil.which("firefox-esr") or shutil.which("firefox")
        if command is None:
            raise MissingError("there is no firefox on the PATH: apt-get install firefox-esr")
        process = await asyncio.create_subprocess_exec(
            *(command, "--headless", "--no-remote", "--profile", str(directory), "--remote-debugging-port", "0"),
            env=os.environ | {"HOME": str(directory)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with ended(process):
            assert process.stderr is not None
            async with asyncio.timeout(START_SECONDS):
                while b"WebDriver BiDi listening on" not in (line := await process.stderr.readline()):
                    assert line, "firefox ended"
            drained = asyncio.ensure_future(process.stderr.read())
            address = f"{line.split()[-1].decode()}/session"
            async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
                made = cls(socket)
                heard = asyncio.ensure_future(made._hear())
                await made.call("session.new", capabilities={})
                yield made
                heard.cancel()
        await drained

    async def _hear(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if (waiting := self._answers.pop(said.get("id"), None)) is not None:
                waiting.set_result(said)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        said = await answer
        assert said["type"] == "success", said
        result: dict[str, Any] = said["result"]
        return result

    @contextlib.asynccontextmanager
    async def profile(self) -> AsyncIterator[Profile]:
        call = self.call
        whose = (await call("browser.createUserContext"))["userContext"]

        class Opened:
            async def open(self, url: str) -> Window:
                context = (await call("browsingContext.create", type="window", userContext=whose))["context"]
                await call("browsingContext.navigate", context=context, url=url, wait="complete")

                class Tab:
                    async def evaluate(self, expression: str) -> Any:
                        target = {"context": context}
                        said = await call(
                            "script.evaluate", expression=wrapped(expression), target=target, awaitPromise=True
                        )
                        assert said["type"] == "success", said
                        return json.loads(said["result"]["value"])

                    async def close(self) -> None:
                        await call("browsingContext.close", context=context)

                return Tab()

        yield Opened()
        await call("browser.removeUserContext", userContext=whose)


def mini_browser() -> Path | None:
    """Find WebKitGTK's own browser, which is not on the PATH."""
    places = ("lib/*/webkit2gtk-4.*", "libexec/webkit2gtk-4.*", "lib*/webkit2gtk-4.*")
    return next((path for place in places for path in Path("/usr").glob(f"{place}/MiniBrowser")), None)


class WebKit:
    """WebKitGTK's own small browser, driven by its WebDriver, on a screen that nobody sees."""

    def __init__(self, session: aiohttp.ClientSession, driver: str, browser: Path, display: str) -> None:
        self._session = session
        self._driver = driver
        self._browser = browser
        self._display = display

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        driver, screen = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
        browser = mini_browser()
        if driver is None or screen is None or browser is None:
            raise MissingError("WebKit is not here: apt-get install webkit2gtk-driver xvfb")
        async with contextlib.AsyncExitStack() as ends:
            read, write = os.pipe()
            display = await asyncio.create_subprocess_exec(
                *(screen, "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"),
                pass_fds=[write],
                stderr=asyncio.subprocess.DEVNULL,
            )
            await ends.enter_async_context(ended(display))
            os.close(write)
            with os.fdopen(read) as said:
                number = (await asyncio.to_thread(said.readline)).strip()
            session = await ends.enter_async_context(aiohttp.ClientSession())
            yield cls(session, driver, browser, f":{number}")

    @contextlib.asynccontextmanager
    async def _driven(self) -> AsyncIterator[str]:
        """Start a driver and yield where its sessions are, once it answers. Whatever it has started ends with it."""
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(self._driver, f"--port={port}"),
            env=os.environ | {"DISPLAY": self._display, "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        address = f"http://127.0.0.1:{port}"

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                await (await self._session.get(f"{address}/status")).read()
                return True
            return False

        try:
            async with ended(process):
                async with asyncio.timeout(START_SECONDS):
                    await eventually(answers)
                yield f"{address}/session"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[str]:
        """Open a browser; yields where it is asked.

        On a busy machine the driver has been seen to wait for a browser that never came, for ever: then another one is
        asked.
        """
        options = {"webkitgtk:browserOptions": {"binary": str(self._browser), "args": ["--automation"]}}
        for tries_left in reversed(range(TRIES)):
            async with self._driven() as sessions:
                try:
                    async with asyncio.timeout(OPEN_SECONDS):
                        made = await self.call("POST", sessions, capabilities={"alwaysMatch": options})
                except TimeoutError:
                    if tries_left:
                        continue
                    raise
                yield f"{sessions}/{made['sessionId']}"
                return

    async def call(self, method: str, url: str, /, **body: Any) -> Any:
        async with self._session.request(method, url, json=body if method == "POST" else None) as answer:
            said = (await answer.json())["value"]
            assert answer.ok, said
            return said

    @contextlib.asynccontextmanager
    async def profile(self) -> AsyncIterator[Profile]:
        async with self._opened() as browser:
            yield await self._profile(browser)
            await self.call("DELETE", browser)

    async def _profile(self, browser: str) -> Profile:
        call, turn = self.call, asyncio.Lock()
        first = iter([await call("GET", f"{browser}/window")])

        class Opened:
            async def open(self, url: str) -> Window:
                async with turn:
                    handle = next(first, None) or (await call("POST", f"{browser}/window/new", type="window"))["handle"]
                    await call("POST", f"{browser}/window", handle=handle)
                    await call("POST", f"{browser}/url", url=url)

                class Tab:
                    async def evaluate(self, expression: str) -> Any:
                        script = f"const done = arguments[0]; {wrapped(expression)}.then(done)"
                        async with turn:
                            await call("POST", f"{browser}/window", handle=handle)
                            return json.loads(await call("POST", f"{browser}/execute/async", script=script, args=[]))

                    async def close(self) -> None:
                        async with turn:
                            await call("POST", f"{browser}/window", handle=handle)
                            await call("DELETE", f"{browser}/window")

                return Tab()

        return Opened()
