"""The same commands as people see them: on a terminal, with colours, bars and tables."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import termios
from pathlib import Path

from tests.acceptance.command import COMMAND, creditsd, environment, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.conftest import PATIENCE_SECONDS, Database
from tests.servers import REFERENCE_TABLE, free_port

ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9])")


class Terminal:
    """A command on a pseudo-terminal of 100 by 30."""

    def __init__(self, *args: str, env: dict[str, str]) -> None:
        self._args, self._env = args, env | {"TERM": "xterm-256color"}
        self._raw = b""
        self._more = asyncio.Event()

    async def __aenter__(self) -> Terminal:
        self._main, side = os.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        env = {name: value for name, value in self._env.items() if name != "COLUMNS"}
        self._process = await asyncio.create_subprocess_exec(
            COMMAND, *self._args, env=env, stdin=side, stdout=side, stderr=side, start_new_session=True
        )
        os.close(side)
        self._open = True
        asyncio.get_running_loop().add_reader(self._main, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        if self._open:
            self._close()

    @property
    def pid(self) -> int:
        """The number of the command's process."""
        return self._process.pid

    @property
    def raw(self) -> str:
        """Everything written so far, as the terminal gets it."""
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """Everything shown so far, without colours and movements."""
        return ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    async def shows(self, words: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until words have been shown."""
        async with asyncio.timeout(seconds):
            while words not in self.text:
                self._more.clear()
                await self._more.wait()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._main, keys.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def hang_up(self) -> None:
        """Close the terminal; its shell then sends SIGHUP to what it has started."""
        self._close()
        self._process.send_signal(signal.SIGHUP)

    async def ends(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for the end and return the exit code."""
        async with asyncio.timeout(seconds):
            code = await self._process.wait()
            self._read()
            return code

    def _close(self) -> None:
        self._open = False
        asyncio.get_running_loop().remove_reader(self._main)
        os.close(self._main)

    def _read(self) -> None:
        if not self._open:
            return
        try:
            while data := self._ready():
                self._raw += data
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._main)
        self._more.set()

    def _ready(self) -> bytes:
        os.set_blocking(self._main, False)
        try:
            return os.read(self._main, 65536)
        except BlockingIOError:
            return b""


async def shown(env: dict[str, str], *args: str, code: int = 0) -> str:
    """Run a command on a terminal to its end and return what it showed."""
    async with Terminal(*args, env=env) as terminal:
        assert await terminal.ends() == code, terminal.text
    assert "Traceback" not in terminal.text
    assert "creditsd.crashed" not in terminal.text
    return terminal.text


async def test_installing_and_uninstalling_tell_each_step(operator: Operator) -> None:
    text = await shown(operator.env, "install")
    assert "applied 0001_changes\n" in text
    assert "put the triggers on public.user_credits\n" in text
    assert "dropped the schema creditsd\n" in await shown(operator.env, "uninstall")


async def test_another_table_is_taken_over_once_somebody_says_yes(installed: Operator) -> None:
    installed.database.run("CREATE TABLE other_credits (LIKE user_credits INCLUDING ALL)")
    env = installed.env | {"CREDITSD_SOURCE__TABLE": "public.other_credits"}
    for answer, said in (("n", "Aborted"), ("y", "put the triggers on public.other_credits")):
        async with Terminal("install", env=env) as terminal:
            await terminal.shows("Go on? [y/N]:")
            terminal.type(f"{answer}\n")
            await terminal.shows(said)


async def test_the_daemon_shows_its_backfill_and_ends_with_ctrl_c(installed: Operator) -> None:
    env = installed.env | {"CREDITSD_HTTP__LISTEN": f"127.0.0.1:{free_port()}"}
    async with Terminal("run", env=env) as terminal:
        await terminal.shows("balances.resync_done")
        assert "2/2" in terminal.text
        terminal.interrupt()
        assert await terminal.ends() == 0
    assert "daemon.stopped" in terminal.text
    assert "Traceback" not in terminal.text


async def test_status_and_explain_and_get_are_for_people(installed: Operator, tmp_path: Path) -> None:
    none, empty = await asyncio.gather(shown(installed.env, "status"), shown(installed.env, "explain", TWO[:-1] + "9"))
    assert "none: start `creditsd run`" in none
    assert "has no rows" in empty
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        await daemon.until("/livez", lambda answer: answer[1]["sinks"]["redis"] == "current")
        status, explained, got = await asyncio.gather(
            shown(installed.env, "status"), shown(installed.env, "explain", ONE), shown(installed.env, "get", ONE)
        )
    assert re.search(r"leader +server process \d+", status)
    assert re.search(r"redis +redis +current +0 +\d+ ", status)
    for words in ("it ended at 2020-01-01", "120 credits", "sink redis", "current"):
        assert words in explained
    assert '"credits":120' in got.replace("\n", "")


async def test_watch_shows_steps_and_ends_quietly_with_ctrl_c(installed: Operator, tmp_path: Path) -> None:
    async with running(tmp_path, env=installed.env) as daemon:
        await daemon.until_ready()
        async with Terminal("watch", ONE, env=installed.env) as terminal:
            await terminal.shows("120")
            installed.database.run("UPDATE public.user_credits SET credits = 15 WHERE credits = 20")
            await terminal.shows("-5")
            terminal.interrupt()
            assert await terminal.ends() == 130
    assert "Traceback" not in terminal.text


async def test_backfill_shows_a_bar(installed: Operator) -> None:
    text = await shown(installed.env, "backfill")
    assert "100%" in text
    assert "2/2" in text
    assert "no daemon runs" in text


async def test_an_error_is_one_line_on_a_terminal_too(operator: Operator) -> None:
    text = await shown(operator.env, "status", code=78)
    assert text == "creditsd: creditsd is not installed in this database: run `creditsd install`\n"


async def test_what_somebody_wrote_into_the_table_does_nothing_to_the_terminal(installed: Operator) -> None:
    name = "\x1b]0;pwned\x07\u202eevil [red]x[/red]"
    installed.database.run("UPDATE public.user_credits SET membership = %s WHERE credits = 100", [name])
    await installed.creditsd("backfill")
    for command in ("explain", "get", "watch"):
        async with Terminal(command, ONE, env=installed.env) as terminal:
            await terminal.shows("120")
            if command != "watch":
                await terminal.shows("u202eevil [red]x[/red]")
                await terminal.ends()
            assert "\x1b]0;" not in terminal.raw
            assert "\u202e" not in terminal.raw


async def test_an_id_that_a_terminal_would_obey_does_nothing_to_it(database18: Database) -> None:
    user_id = "\x1b]0;pwned\x07\u202eevil [red]x[/red]"
    database18.run(REFERENCE_TABLE.replace("user_id uuid", "user_id text"))
    database18.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type, membership) "
        "VALUES (%s, 100, 'active', 'subscription', %s), (%s, 20, %s, %s, %s)",
        [user_id] * 6,
    )
    env = environment(CREDITSD_DSN=database18.dsn, CREDITSD_SINKS="redis://127.0.0.1:1", CREDITSD_HISTORY__DAYS="1")
    for first in ("install", "backfill"):
        assert (await creditsd(first, env=env)).code == 0
    database18.run("UPDATE creditsd.balances SET credits = 1000")
    database18.run(
        "INSERT INTO creditsd.deliveries (sink, user_id, version, attempt, last_error) VALUES ('redis', %s, 1, 9, %s)",
        [user_id, user_id],
    )
    database18.run(
        "INSERT INTO creditsd.problems (user_id, problem, reason) VALUES (%s, 'not summed', %s)", [user_id] * 2
    )
    commands: tuple[tuple[tuple[str, ...], int], ...] = (
        (("history", user_id), 0),
        (("verify",), 1),
        (("deliveries", "list"), 0),
        (("deliveries", "show", "redis", user_id), 0),
        (("explain", user_id), 0),
        (("get", user_id), 0),
        (("status",), 0),
        (("deliveries", "show", "redis", f"{user_id}!"), 65),
        (("sinks", "replay", "redis", f"{user_id}!"), 65),
    )
    for command, code in commands:
        async with Terminal(*command, env=env) as terminal:
            assert await terminal.ends() == code, (command, terminal.raw)
        assert "\x1b]0;" not in terminal.raw, command
        assert "\u202e" not in terminal.raw, command
        shown = re.sub(r"\s", "", terminal.text)
        for part in ("pwned", "07", "u202eevil", "[red]x[/red]"):  # which may be folded where a column ends
            assert part in shown, (command, terminal.text)
