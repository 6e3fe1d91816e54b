"""What systemd hears of the daemon, over a real datagram socket."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from creditsd.config import systemd
from tests.acceptance.command import running
from tests.acceptance.conftest import Operator


class Manager:
    """Listens as systemd does."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self.heard: list[str] = []

    async def hear(self) -> str:
        """Wait for the next message."""
        async with asyncio.timeout(60):
            message = (await asyncio.get_running_loop().sock_recv(self._link, 4096)).decode()
        self.heard += message.splitlines()
        return message

    async def until(self, line: str) -> None:
        """Wait for a message that contains a line."""
        while line not in (await self.hear()).splitlines():
            pass

    def pending(self) -> bool:
        """Whether something waits to be heard."""
        with contextlib.suppress(BlockingIOError):
            self.heard += self._link.recv(4096).decode().splitlines()
            return True
        return False


@contextlib.contextmanager
def listening(address: str) -> Iterator[Manager]:
    """Be systemd at an address for as long as the block lasts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        link.bind(address)
        yield Manager(link)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with listening(str(tmp_path / "notify")) as listener:
        yield listener


async def test_it_says_when_it_is_ready_that_it_lives_and_that_it_ends(
    installed: Operator, manager: Manager, tmp_path: Path
) -> None:
    env = installed.env | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    async with running(tmp_path, env=env) as daemon:
        await manager.until("READY=1")
        assert "STATUS=leading" in manager.heard
        assert (await daemon.ask("/readyz"))[0] == 200
        await manager.until("WATCHDOG=1")
        await manager.until("WATCHDOG=1")
        assert await daemon.end(signal.SIGTERM) == 0
        while manager.pending():
            pass
        assert manager.heard.index("STOPPING=1") > manager.heard.index("READY=1")


async def test_a_standby_is_ready_too(installed: Operator, manager: Manager, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as leader:
        await leader.until_ready()
        async with running(tmp_path, env=installed.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}):
            await manager.until("READY=1")
            assert "STATUS=standing by" in manager.heard


async def test_a_watchdog_meant_for_another_process_is_not_fed_and_nobody_there_is_no_failure(
    installed: Operator, tmp_path: Path
) -> None:
    env = installed.env | {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    async with running(tmp_path, env=env) as daemon:
        await daemon.until_ready()
        assert await daemon.end() == 0


async def test_the_watchdog_starves_when_the_line_does_not_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("\0creditsd-test-starves") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", "@creditsd-test-starves")
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        answers = iter([True, False, False, False])
        over = asyncio.Event()

        def alive() -> bool:
            answer = next(answers, None)
            if answer is None:
                over.set()
            return bool(answer)

        feeding = asyncio.create_task(systemd.keep_alive(alive))
        await over.wait()
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
        while manager.pending():
            pass
        assert manager.heard == ["WATCHDOG=1"]
