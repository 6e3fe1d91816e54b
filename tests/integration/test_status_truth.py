"""In each state of a sink, status, explain, the list of sinks, the page and the probes say the same, and the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from structlog.testing import capture_logs
from structlog.typing import EventDict

from creditsd.admin.inspect import Inspector, Status
from creditsd.admin.sinks import SinkControl
from creditsd.cli import render
from creditsd.config.settings import Settings
from creditsd.daemon.app import Daemon
from creditsd.domain.errors import InputError, NotAgreed, SinkUnavailable
from creditsd.sinks import SinkDisabled
from tests.acceptance.command import creditsd, environment
from tests.conftest import SERVERS, Database, eventually, settled
from tests.http.asking import Asking, asking, bearer, http
from tests.integration.line import OTHER, USER, MemorySink, configured, installed, user
from tests.integration.running import running, until
from tests.integration.test_problems import HUGE
from tests.servers import REFERENCE_TABLE

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

OPERATOR = "an operator's key, long enough"
USERS = 50
ADD = "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, %s, 'active', %s)"
SINKS = [{"name": "memory", "url": "stdout:"}]  # what a command is told of it
WELL = "All is well: what is stored has arrived everywhere."


class Telling:
    """A daemon with the sink `memory`, and everything that says how it is."""

    def __init__(self, database: Database, settings: Settings, daemon: Daemon, client: Asking) -> None:
        self.database = database
        self.settings = settings
        self._daemon = daemon
        self._client = client

    async def status(self) -> Status:
        async with Inspector.opened(self.settings, purpose="test") as inspector:
            return await inspector.status()

    async def page(self) -> dict[str, Any]:
        answer = await self._client.get("/v1/operator/state", **bearer(OPERATOR))
        found: dict[str, Any] = answer.body["data"]
        return found

    async def explained(self, user_id: str = USER) -> list[str]:
        """What the command and the page say of a user at the sink."""
        async with Inspector.opened(self.settings, purpose="test") as inspector:
            here = dict((await inspector.explain(user_id)).sinks)["memory"]
        page = await self._client.get(f"/v1/operator/explain/{user_id}", **bearer(OPERATOR))
        return [here, page.body["data"]["sinks"]["memory"]]

    async def ready(self) -> tuple[int, str]:
        """What the probe answers, and what it says of the sink."""
        answer = await self._client.get("/readyz")
        return answer.status, answer.body["sinks"]["memory"]

    async def metric(self, problem: str) -> str:
        """How many users the metrics say are set aside for a reason."""
        lines = str((await self._client.get("/metrics")).body).splitlines()
        name = f'creditsd_users_set_aside{{problem="{problem}"}} '
        return next(line.removeprefix(name) for line in lines if line.startswith(name))

    async def agreed(self, state: str, said: str, hint: str) -> None:
        """Wait until status, the list, the text and the page all say this of the sink, and make a sentence of it."""
        sentence = f"memory: {said} ({hint})."

        async def heard() -> list[Any]:
            status, page = await self.status(), await self.page()
            async with SinkControl.opened(self.settings) as control:
                listed = await control.list()
            (own,) = [each for each in page["sinks"] if each["name"] == "memory"]
            screen = StringIO()
            render.status(Console(file=screen, width=400), status)
            return [
                (status.sinks[0].state, status.sinks[0].said, status.sinks[0].hint),
                (listed[0].state, listed[0].said, listed[0].hint),
                (own["state"], own["said"], own["hint"]),
                status.sentence(),
                page["sentence"],
                screen.getvalue().splitlines()[0],
            ]

        wanted: list[Any] = [(state, said, hint)] * 3 + [sentence] * 3
        assert await settled(heard, lambda found: found == wanted) == wanted


@asynccontextmanager
async def telling(database: Database, sink: MemorySink, users: int = USERS) -> AsyncIterator[Telling]:
    """Run a daemon that has told its sink of everyone."""
    settings = await installed(database, http=http(operator_keys=[OPERATOR]))
    for number in range(1, users + 1):
        database.run(ADD, [user(number), 1, "subscription"])
    assert settings.http.address is not None
    async with running(settings, sink) as daemon, asking(settings.http.address[1]) as client:
        await sink.until(lambda: len(sink.newest) == users)
        await until(daemon, "sinks", {"memory": "current"})
        theirs = settings.model_copy(update={"sinks": configured(database, sinks=SINKS).sinks})
        yield Telling(database, theirs, daemon, client)


async def test_where_all_has_arrived_it_says_so(reference_table: Database) -> None:
    async with telling(reference_table, MemorySink(), users=2) as told:

        async def sentences() -> list[str]:
            return [(await told.status()).sentence(), (await told.page())["sentence"]]

        assert await settled(sentences, lambda found: found == [WELL, WELL]) == [WELL, WELL]
        assert await told.ready() == (200, "current")
        assert await told.explained() == ["was told the newest"] * 2


async def test_a_paused_sink_says_how_many_wait_and_how_it_goes_on(reference_table: Database) -> None:
    async with telling(reference_table, MemorySink()) as told:
        async with SinkControl.opened(told.settings) as control:
            await control.pause("memory")
        await until(told._daemon, "sinks", {"memory": "paused (creditsd sinks resume memory)"})
        reference_table.run("UPDATE user_credits SET credits = 2")
        await told.agreed("paused", "paused; 50 wait", "creditsd sinks resume memory")
        assert await told.ready() == (200, "paused; totals wait (creditsd sinks resume memory)")
        for said in await told.explained():
            assert said.startswith("has yet to be told the newest; the sink: paused; 50 wait")
            assert said.endswith("(creditsd sinks resume memory)")


async def test_a_sink_that_refuses_everyone_says_so_while_they_wait_and_once_they_are_dead(
    reference_table: Database,
) -> None:
    sink = MemorySink()
    async with telling(reference_table, sink, users=2) as told:
        sink.refuses = {USER, OTHER}
        reference_table.run("UPDATE user_credits SET credits = 2")
        hint = "creditsd deliveries list --sink memory"
        lately = "nothing that was sent last has arrived"
        await told.agreed("incomplete", f"2 refused deliveries are to be tried again; {lately}", hint)
        assert await told.ready() == (200, f"2 refused deliveries are to be tried again; {lately} ({hint})")
        reference_table.run("UPDATE creditsd.deliveries SET next_at = NULL")
        reference_table.run("SELECT pg_notify('creditsd', 'sinks')")
        await told.agreed("incomplete", f"2 dead letters wait for you; {lately}", hint)
        for said in await told.explained():
            assert said.startswith("refused the newest, tried ")
            assert said.endswith(f"not today; a dead letter (creditsd deliveries retry memory {USER})")


async def test_a_dead_letter_is_said_of_its_user_alone(reference_table: Database) -> None:
    sink = MemorySink()
    async with telling(reference_table, sink, users=2) as told:
        sink.refuses = {USER}
        reference_table.run("UPDATE user_credits SET credits = 2")
        await sink.until(lambda: sink.newest[OTHER].credits == 2)
        kept = "UPDATE creditsd.deliveries SET next_at = NULL RETURNING user_id::text"
        await eventually(lambda: _run(reference_table, kept))
        reference_table.run("SELECT pg_notify('creditsd', 'sinks')")
        await eventually(told.ready, lambda found: "1 dead letter waits for you" in found[1])
        for said in await told.explained():
            assert f"creditsd deliveries retry memory {USER}" in said
        assert await told.explained(OTHER) == ["was told the newest"] * 2


async def test_a_sink_that_stands_still_is_tested_and_a_disabled_one_enabled(reference_table: Database) -> None:
    sink = MemorySink()
    async with telling(reference_table, sink, users=2) as told:
        sink.failure = SinkUnavailable("sink memory: it is on fire")
        reference_table.run("UPDATE user_credits SET credits = 2")
        await told.agreed("failing", "stands still: it is on fire; 2 wait", "creditsd sinks test memory")
        assert await told.ready() == (200, "stands still: it is on fire; totals wait (creditsd sinks test memory)")
        sink.failure = SinkDisabled("sink memory: answered 410")
        await told.agreed("disabled", "disabled: answered 410; 2 wait", "creditsd sinks enable memory")
        assert await told.ready() == (200, "disabled: answered 410; totals wait (creditsd sinks enable memory)")
        for said in await told.explained():
            assert said.startswith("has yet to be told the newest; the sink: disabled: answered 410")


async def test_a_sink_that_is_not_configured_any_more_is_said_to_be_told_nothing(reference_table: Database) -> None:
    async with telling(reference_table, MemorySink(), users=2) as told:
        reference_table.run("INSERT INTO creditsd.sinks (name) VALUES ('former')")
        said, hint = "not in these settings, so nothing is delivered; 2 wait", "creditsd sinks remove former"

        async def heard() -> list[str]:
            return [(await told.status()).sentence(), (await told.page())["sentence"]]

        wanted = f"former: {said} ({hint})."
        assert await settled(heard, lambda found: found == [wanted] * 2) == [wanted] * 2
        async with Inspector.opened(told.settings, purpose="test") as inspector:
            held = dict((await inspector.explain(USER)).sinks)["former"]
        assert held == f"has yet to be told the newest; the sink: {said} ({hint})"
        env = environment(CREDITSD_DSN=reference_table.dsn)
        for whose in ([], [USER]):
            again = await creditsd("sinks", "replay", "former", *whose, env=env)
            assert (again.code, "once a daemon has it in its settings" in again.err) == (0, True), again.err
        assert (await creditsd("sinks", "remove", "former", env=env)).code == 0


async def test_whoever_has_other_settings_than_the_daemon_removes_no_sink_of_it(reference_table: Database) -> None:
    async with telling(reference_table, MemorySink(), users=2):
        none = configured(reference_table)
        async with SinkControl.opened(none) as control:
            with pytest.raises(InputError, match="is delivered to by the daemon that leads"):
                await control.remove("memory")
            [listed] = await control.list()
            assert (listed.state, listed.said) == ("current", "in the daemon's settings alone")
    async with SinkControl.opened(none) as control:
        with pytest.raises(NotAgreed, match="no daemon leads"):
            await control.remove("memory")
        await control.remove("memory", agreed=True)


async def test_a_sink_of_these_settings_that_the_daemon_does_not_have_is_said_to_be_told_nothing(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table, sinks=[{"name": "cache", "url": "stdout:"}])
    reference_table.run("INSERT INTO creditsd.sinks (name) VALUES ('cache')")  # by a daemon that had it
    nothing = "not in the settings of the daemon that leads, so nothing is delivered"
    async with running(configured(reference_table), MemorySink()) as daemon:
        await until(daemon, "state", "leading")
        async with SinkControl.opened(settings) as control:

            async def said() -> str:
                return (await control.list())[0].said

            await eventually(said, lambda now: now == nothing)


async def test_a_standby_says_nothing_of_sinks_that_another_tells(reference_table: Database) -> None:
    settings = await installed(reference_table)
    async with running(settings, MemorySink()) as leader:
        await until(leader, "state", "leading")
        async with running(settings, MemorySink()) as standby:
            await until(standby, "state", "standby")
            assert standby.health()["sinks"] == {"memory": "not ours to tell: this daemon does not lead"}


async def test_who_is_set_aside_is_in_the_sentence_the_metrics_and_the_log(database: Database) -> None:
    database.run(REFERENCE_TABLE)
    database.run("ALTER TABLE user_credits ALTER credits TYPE numeric")
    with capture_logs() as logs:
        async with telling(database, MemorySink(), users=2) as told:
            assert await told.metric("not summed") == "0.0"
            for _ in range(2):
                database.run(ADD, [USER, HUGE, "subscription"])
            await set_aside(told, logs, "not summed", "value overflows numeric format")


async def test_who_is_not_expired_is_in_the_sentence_the_metrics_and_the_log(reference_table: Database) -> None:
    reference_table.run("CREATE UNIQUE INDEX ON user_credits (user_id, plan_type, status)")
    reference_table.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type) VALUES (%s, 0, 'expired', 'one_time')", [USER]
    )
    with capture_logs() as logs:
        async with telling(reference_table, MemorySink(), users=2) as told:
            assert await told.metric("not expired") == "0.0"
            for each in (USER, OTHER):
                reference_table.run(ADD, [each, 5, "one_time"])
            reference_table.run("UPDATE user_credits SET credits = 0 WHERE plan_type = 'one_time'")
            await set_aside(told, logs, "not expired", "duplicate key value violates unique constraint")
            active = "SELECT user_id::text FROM user_credits WHERE plan_type = 'one_time' AND status = 'active'"
            await eventually(lambda: _run(reference_table, active), lambda found: found == [(USER,)])


async def set_aside(told: Telling, logs: list[EventDict], problem: str, reason: str) -> None:
    """Wait until everything that speaks says that USER alone is set aside, and why."""

    async def heard() -> list[str]:
        return [(await told.status()).sentence(), (await told.page())["sentence"]]

    wanted = f"1 user is set aside (creditsd explain {USER})."
    assert await settled(heard, lambda found: found == [wanted] * 2) == [wanted] * 2
    await eventually(partial(told.metric, problem), lambda number: number == "1.0")
    async with Inspector.opened(told.settings, purpose="test") as inspector:
        ((found, why),) = [(each.problem, each.reason) for each in (await inspector.explain(USER)).problems]
        assert (await inspector.explain(OTHER)).problems == []
    assert (found, reason in why) == (problem, True), why
    said = [each for each in logs if each["event"] == "balances.user_set_aside"]
    assert {each["log_level"] for each in said} == {"warning"}
    assert all(each["message"].startswith(f"sets {USER} aside ({problem}): {reason}") for each in said), said


@pytest.mark.parametrize("expire_empty", ["on", "off"])
async def test_credits_in_packs_that_have_expired_are_named(reference_table: Database, expire_empty: str) -> None:
    settings = await installed(reference_table, expire_empty=expire_empty)
    reference_table.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type, expires_at) VALUES "
        f"('{USER}', 40, 'expired', 'one_time', NULL), "
        f"('{USER}', 30, 'active', 'one_time', '2020-01-01'), "
        f"('{USER}', 20, 'expired', 'subscription', NULL), "
        f"('{USER}', 10, 'refunded', 'one_time', '2020-01-01'), "
        f"('{USER}', 0, 'expired', 'one_time', NULL), "
        f"('{USER}', NULL, 'expired', 'one_time', NULL), "
        f"('{USER}', 3, 'active', 'one_time', NULL)"
    )
    async with Inspector.opened(settings, purpose="test") as inspector:
        found = await inspector.explain(USER)
        nobody = await inspector.explain(OTHER)
    assert found.hints == ["2 expired one-time rows hold 70 credits, which count no more"]
    assert sorted(int(each.credits or 0) for each in found.rows if each.left_over) == [30, 40]
    assert {each.why for each in found.rows if each.left_over} == {
        "its status 'expired' is not an active one; 40 credits are left in it",
        "it ended at 2020-01-01 00:00:00 UTC; 30 credits are left in it",
    }
    assert (nobody.hints, nobody.rows) == ([], [])


async def _run(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.run(query)


async def test_what_nobody_has_read_is_counted_where_none_has_ever_led(
    installation: Database, settings: Settings
) -> None:
    installation.run(ADD, [USER, 1, "pack"])
    async with Inspector.opened(settings, purpose="test") as inspector:
        found = await inspector.status()
    assert (found.unread, found.leader_pid) == (1, None)
