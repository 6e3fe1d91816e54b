"""A daemon reads its settings anew: sinks come, go and change, and nothing else is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.daemon.timings import Timings
from creditsd.domain.errors import ConfigError
from tests.conftest import Database, eventually
from tests.integration.line import OTHER, USER
from tests.integration.running import QUICK, until
from tests.proxy import Proxy
from tests.sinks.webhook_harness import SECRET as OLD
from tests.sinks.webhook_harness import Receiver

NEW = "whsec_" + "bmV3" * 8
ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"
SET = "UPDATE user_credits SET credits = %s WHERE user_id = %s"
ROW = "SELECT cursor, served_by IS NOT NULL FROM creditsd.sinks WHERE name = %s"
LEADER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1249075342 AND granted"


@dataclass
class File:
    """What the daemon reads, as its operator edits it, and what it says of that."""

    settings: Settings
    said: list[Any] = field(default_factory=list)
    wrong: str | None = None

    def sinks(self, *sinks: dict[str, Any], **more: Any) -> None:
        """Write these sinks, and perhaps other settings."""
        self.settings = Settings.model_validate(self.settings.model_dump() | {"sinks": list(sinks)} | more)

    def read(self) -> Settings:
        if self.wrong is not None:
            raise ConfigError(self.wrong)
        return self.settings

    async def logged(self, event: str, number: int = 1) -> Any:
        """Wait for the so-and-so-manieth record of an event."""

        async def records() -> Sequence[Any]:
            return [each for each in self.said if each["event"] == event]

        return (await eventually(records, lambda found: len(found) >= number))[number - 1]


@asynccontextmanager
async def running(file: File, timings: Timings = QUICK) -> AsyncIterator[Daemon]:
    daemon = Daemon(file.settings, read=file.read, timings=timings)
    with capture_logs() as file.said:
        task = asyncio.create_task(daemon.run())
        try:
            yield daemon
        finally:
            daemon.stop()
            async with asyncio.timeout(60):
                await task


@asynccontextmanager
async def receivers(number: int) -> AsyncIterator[list[Receiver]]:
    made = [Receiver() for _ in range(number)]
    for each in made:
        await each.start()
    try:
        yield made
    finally:
        for each in made:
            await each.stop()


def webhook(name: str, to: Receiver, **options: Any) -> dict[str, Any]:
    address = f"webhook+http://127.0.0.1:{to.port}/"
    return {"name": name, "url": address, "secret": OLD, "allow_cidrs": ["127.0.0.0/8"]} | options


def told(receiver: Receiver) -> list[tuple[str, int]]:
    return [(str(each.data["user_id"]), int(each.data["credits"])) for each in receiver.deliveries]


async def until_told(receiver: Receiver, name: str, amount: int) -> None:
    async def deliveries() -> list[tuple[str, int]]:
        return told(receiver)

    await eventually(deliveries, lambda found: (name, amount) in found)


@pytest.fixture
def file(installation: Database, settings: Settings) -> File:
    for name, amount in ((USER, 1), (OTHER, 2)):
        installation.run(ADD, [name, amount])
    return File(settings)


async def test_a_sink_that_is_added_is_told_everyone_and_the_other_is_not_touched(
    installation: Database, file: File
) -> None:
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one, concurrency=1))
        async with running(file) as daemon:
            await until(daemon, "state", "leading")
            await until_told(one, OTHER, 2)
            leader = installation.run(LEADER)
            file.sinks(webhook("two", two), webhook("one", one, concurrency=1))
            daemon.reload()
            said = await file.logged("daemon.reloaded")
            assert said["added"] == ["two"]
            assert said["unchanged"] == ["one"]
            assert said["removed"] == said["changed"] == []
            await until_told(two, USER, 1)
            await until_told(two, OTHER, 2)
            installation.run(SET, [3, USER])
            await until_told(two, USER, 3)
            await until_told(one, USER, 3)
            assert sorted(told(one)) == [(USER, 1), (USER, 3), (OTHER, 2)]
            assert len(one.connections) == 1
            assert installation.run(LEADER) == leader
            await until(daemon, "sinks", {"one": "current", "two": "current"})


async def test_a_sink_that_is_removed_is_told_nothing_more_and_put_back_goes_on_at_its_cursor(
    installation: Database, file: File
) -> None:
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one), webhook("two", two))
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            await until_told(two, OTHER, 2)
            file.sinks(webhook("one", one))
            daemon.reload()
            assert (await file.logged("daemon.reloaded"))["removed"] == ["two"]
            before = installation.run(ROW, ["two"])
            assert before[0][0] > 0
            assert not before[0][1], "it is said to be told by this daemon"
            installation.run(SET, [3, USER])
            await until_told(one, USER, 3)
            assert installation.run(ROW, ["two"]) == before
            assert (USER, 3) not in told(two)
            two.deliveries.clear()
            file.sinks(webhook("one", one), webhook("two", two))
            daemon.reload()
            await until_told(two, USER, 3)
            assert told(two) == [(USER, 3)]


async def test_a_sink_whose_cursor_is_set_meanwhile_is_left_all_the_same(installation: Database, file: File) -> None:
    async with receivers(1) as (one,):
        file.sinks(webhook("one", one))
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            await until(daemon, "sinks", {"one": "current"})
            installation.run("UPDATE creditsd.sinks SET cursor = 1 WHERE name = 'one'")
            file.sinks()
            daemon.reload()
            await file.logged("daemon.reloaded")
            assert installation.run(ROW, ["one"]) == [(1, False)]


async def test_a_secret_that_is_rotated_signs_what_comes_next(installation: Database, file: File) -> None:
    async with receivers(1) as (one,):
        file.sinks(webhook("one", one))
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            for each in one.deliveries:
                each.verify(OLD)
            file.sinks(webhook("one", one, secret=NEW))
            daemon.reload()
            assert (await file.logged("daemon.reloaded"))["changed"] == ["one"]
            installation.run(SET, [3, USER])
            await until_told(one, USER, 3)
            one.deliveries[-1].verify(NEW)
            assert len(one.deliveries) == 3


async def test_what_a_sink_was_sent_just_before_it_was_changed_or_removed_is_in_the_log(
    installation: Database, file: File
) -> None:
    async def written() -> list[tuple[Any, ...]]:
        return installation.run("SELECT DISTINCT sink FROM creditsd.attempts ORDER BY sink")

    async with receivers(2) as (first, second):
        file.sinks(webhook("first", first), webhook("second", second))
        async with running(file) as daemon:
            await first.asked(2)
            await second.asked(2)
            file.sinks(webhook("first", first, secret=NEW))
            daemon.reload()
            await file.logged("daemon.reloaded")
            await eventually(written, lambda found: found == [("first",), ("second",)])


async def test_what_is_wrong_changes_nothing_and_says_so_in_one_line(installation: Database, file: File) -> None:
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one))
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            file.wrong = "creditsd.toml: broken TOML at line 3"
            daemon.reload()
            said = await file.logged("daemon.reload_refused")
            assert (said["log_level"], said["reason"]) == ("error", file.wrong)
            assert "reload again" in said["hint"]
            file.wrong = None
            file.sinks(webhook("two", two), webhook("one", one, secret="not base64!"))
            daemon.reload()
            assert "sink one" in (await file.logged("daemon.reload_refused", 2))["reason"]
            installation.run(SET, [3, USER])
            await until_told(one, USER, 3)
            await until(daemon, "sinks", {"one": "current"})
            assert not two.deliveries
            file.sinks(webhook("one", one), webhook("two", two))
            daemon.reload()
            await until_told(two, USER, 3)


async def test_every_step_cannot_be_asked_for_where_none_is_kept_without_a_restart(file: File) -> None:
    async with receivers(1) as (one,):
        file.sinks(webhook("one", one))
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            file.sinks(webhook("one", one, mode="every"), history={"days": 3})
            daemon.reload()
            assert "takes a restart" in (await file.logged("daemon.reload_refused"))["reason"]
            history, http = {"days": 3}, {"listen": "127.0.0.1:1"}
            file.sinks(webhook("one", one), history=history, http=http, poll_seconds=2, lock_wait_seconds=5)
            daemon.reload()
            needed = (await file.logged("settings.restart_needed"))["settings"]
            assert needed == ["poll_seconds", "history.days", "http.listen"]


async def test_a_sink_that_is_left_alone_for_a_while_is_tried_at_once_under_its_new_address(file: File) -> None:
    timings = replace(QUICK, delivery=replace(QUICK.delivery, first_pause_seconds=3600, longest_pause_seconds=3600))
    async with receivers(1) as (one,):
        nowhere = Receiver()
        file.sinks(webhook("one", nowhere))
        async with running(file, timings) as daemon:
            await file.logged("publisher.backed_off")
            file.sinks(webhook("one", one))
            daemon.reload()
            await until_told(one, USER, 1)
            await until_told(one, OTHER, 2)


async def test_what_a_receiver_does_not_answer_is_cut_off_and_sent_again(file: File) -> None:
    timings = replace(QUICK, leave_seconds=0.1)
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one))
        one.answer = one.silence
        async with running(file, timings) as daemon:
            await until_told(one, OTHER, 2)
            file.sinks(webhook("one", two))
            daemon.reload()
            await until_told(two, USER, 1)
            await until_told(two, OTHER, 2)


async def test_the_delivery_under_way_comes_to_its_end_before_another_takes_over(file: File) -> None:
    timings = replace(QUICK, leave_seconds=60)
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one))
        waiting, go = asyncio.Event(), asyncio.Event()
        accept = one.answer

        async def slowly(request: Any) -> Any:
            waiting.set()
            await go.wait()
            return await accept(request)

        one.answer = slowly
        async with running(file, timings) as daemon:
            await waiting.wait()
            await until_told(one, OTHER, 2)
            file.sinks(webhook("one", two))
            daemon.reload()

            async def leaving() -> bool:
                return any(type(each._state).__name__ == "Leaving" for each in daemon._publishers)

            await eventually(leaving)
            go.set()
            await file.logged("daemon.reloaded")
            assert two.deliveries == []
            assert sorted(told(one)) == [(USER, 1), (OTHER, 2)]


async def test_a_standby_tells_a_sink_that_was_added_once_it_leads(file: File) -> None:
    async with receivers(2) as (one, two):
        file.sinks(webhook("one", one))
        other = File(file.settings)
        async with running(file) as leader:
            await until(leader, "state", "leading")
            await until_told(one, OTHER, 2)
            async with running(other) as standby:
                await until(standby, "state", "standby")
                other.sinks(webhook("two", two))
                standby.reload()
                said = await other.logged("daemon.reloaded")
                assert (said["added"], said["removed"]) == (["two"], ["one"])
                assert leader.state == "leading"
                leader.stop()
                await until(standby, "state", "leading")
                await until_told(two, USER, 1)
                await until_told(two, OTHER, 2)
    assert sorted(told(one)) == [(USER, 1), (OTHER, 2)]


async def test_settings_are_reloaded_while_postgres_is_away(installation: Database, file: File) -> None:
    with installation.server.connect() as connection:
        info = connection.info
        proxy = Proxy(info.host, info.port)
    async with proxy, receivers(2) as (one, two):
        dsn = make_conninfo(installation.dsn, host=proxy.host, port=proxy.port)
        file.sinks(webhook("one", one), dsn=dsn)
        async with running(file) as daemon:
            await until_told(one, OTHER, 2)
            await proxy.stop()
            await until(daemon, "state", "disconnected")
            file.sinks(webhook("two", two))
            daemon.reload()
            assert (await file.logged("daemon.reloaded"))["removed"] == ["one"]
            await proxy.start()
            await until(daemon, "state", "leading")
            await until_told(two, USER, 1)
            await until_told(two, OTHER, 2)


async def test_of_requests_that_come_together_the_last_settings_are_in_force(file: File) -> None:
    async with receivers(3) as made:
        file.sinks(webhook("one", made[0]))
        async with running(file) as daemon:
            daemon.reload()  # while it starts
            for number in (1, 2, 1, 2):
                file.sinks(webhook("one", made[number]))
                daemon.reload()
                daemon.reload()
                await asyncio.sleep(0)
            await until_told(made[2], OTHER, 2)
            await until_told(made[2], USER, 1)
            await until(daemon, "state", "leading")
            await until(daemon, "sinks", {"one": "current"})


async def test_a_daemon_that_is_told_to_end_while_it_reloads_ends(installation: Database, file: File) -> None:
    timings = replace(QUICK, leave_seconds=3600)
    async with receivers(2) as (one, two):
        one.answer = one.silence
        file.sinks(webhook("one", one), shutdown_seconds=0.1)
        async with running(file, timings) as daemon:
            await until_told(one, OTHER, 2)
            file.sinks(webhook("two", two))
            daemon.reload()
            await until_told(two, OTHER, 2)
            daemon.stop()
        assert installation.run(ROW, ["one"])
        assert not [each for each in file.said if each["event"] == "daemon.reloaded"]
