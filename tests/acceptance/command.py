"""The installed `creditsd`, run as its user runs it: a process, its environment, what it prints, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.conftest import PATIENCE_SECONDS, eventually
from tests.servers import alive, free_port

COMMAND = Path(sys.executable).with_name("creditsd")
LONGEST_COMMAND_SECONDS = 60


def environment(**settings: str) -> dict[str, str]:
    """Our environment without anybody's settings and trusted certificates, plus the given ones.

    What a test trusts it names itself; to read some 150 others would be a twentieth of a command's start.
    """
    foreign = ("CREDITSD_", "PG", "NOTIFY_SOCKET", "WATCHDOG_", "CREDENTIALS_DIRECTORY")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return mine | {"COLUMNS": "120", "SSL_CERT_FILE": os.devnull, "CREDITSD_HTTP__LISTEN": ""} | settings


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as one JSON document."""
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        """What it printed, read as one JSON document a line."""
        return [orjson.loads(line) for line in self.out.splitlines()]


async def creditsd(*args: str, env: Mapping[str, str]) -> Done:
    """Run a command of creditsd to its end."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *args,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LONGEST_COMMAND_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def install(dsn: str) -> None:
    """Install in a database, as tests need it that begin after that."""
    done = subprocess.run([COMMAND, "install"], env=environment(CREDITSD_DSN=dsn), check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


class Running:
    """A `creditsd run` that has been started; its log goes to a file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, address: str) -> None:
        self._process = process
        self._log = log
        self._address = address

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def port(self) -> int:
        """Where its HTTP surface listens."""
        return int(self._address.rpartition(":")[2])

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        return not alive(self.pid)

    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The records of one event, in order."""
        records = [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [record for record in records if record.get("event") == event]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end and return its exit code."""
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, wait for its end and return its exit code."""
        self.send(number)
        return await self.wait()

    async def ask(self, path: str, key: str = "") -> tuple[int, dict[str, Any]]:
        """Ask its HTTP surface, with a key if need be; status 0 where nobody answers."""
        return await asyncio.to_thread(self._ask, path, key)

    async def until(
        self, path: str, holds: Callable[[tuple[int, dict[str, Any]]], object], seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """Ask until the answer is as wanted, and return its body; fail with its log when it has ended."""

        async def answer() -> tuple[int, dict[str, Any]]:
            assert not self.ended, self.log()
            return await self.ask(path)

        return (await eventually(answer, holds, seconds))[1]

    async def until_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it leads and has recomputed everyone, or stands by."""
        await self.until("/readyz", lambda answer: answer[0] == 200, seconds)

    async def until_state(self, state: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it says so of itself."""
        await self.until("/livez", lambda answer: answer[1].get("state") == state, seconds)

    async def until_logged(self, event: str, seconds: float = PATIENCE_SECONDS, *, times: int = 1) -> dict[str, Any]:
        """Wait until an event stands in its log so often, and return the last record of it."""

        async def records() -> list[dict[str, Any]]:
            return self.logged(event)

        return (await eventually(records, lambda found: len(found) >= times, seconds))[-1]

    async def until_logged_with(self, event: str, reason: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until an event stands in its log whose reason contains certain words."""

        async def reasons() -> list[str]:
            return [record["reason"] for record in self.logged(event) if reason in record["reason"]]

        await eventually(reasons, bool, seconds)

    async def figures(self) -> str:
        """Return what it exports for Prometheus."""

        def scrape() -> str:
            with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=2) as response:
                return str(response.read().decode())

        return await asyncio.to_thread(scrape)

    def _ask(self, path: str, key: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://{self._address}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=2) as response:
                return response.status, orjson.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, orjson.loads(error.read())
        except OSError:
            return 0, {}


async def start(
    directory: Path,
    *args: str,
    env: Mapping[str, str],
    command: str = "run",
    port: int | None = None,
    through: Sequence[str] = (),
) -> Running:
    """Start the daemon and return at once; it listens on a port of its own and logs JSON into a directory.

    `through` is a command that becomes another one, such as `ip netns exec NAME`.
    """
    port = port or free_port()
    path = directory / f"creditsd-{port}.log"
    settings = {"CREDITSD_HTTP__LISTEN": f"127.0.0.1:{port}", "CREDITSD_LOG__FORMAT": "json"}
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *through,
            COMMAND,
            command,
            *args,
            env={**env, **settings},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    return Running(process, path, f"127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    *args: str,
    env: Mapping[str, str],
    command: str = "run",
    port: int | None = None,
    through: Sequence[str] = (),
) -> AsyncIterator[Running]:
    """Run the daemon for as long as the block lasts."""
    daemon = await start(directory, *args, env=env, command=command, port=port, through=through)
    try:
        yield daemon
    finally:
        if not daemon.ended:
            daemon.send(signal.SIGCONT)
            daemon.send(signal.SIGKILL)
        await daemon.wait()
