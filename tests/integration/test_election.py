"""One daemon leads, the others stand by; who loses leadership hands everything back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import lt
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.admin.inspect import Inspector
from creditsd.config.settings import Settings
from creditsd.daemon import election
from creditsd.daemon.app import Daemon
from creditsd.domain.total import Total
from creditsd.http.operator.recent_totals import RecentTotals
from creditsd.sinks import Rejection
from tests.conftest import Database, eventually
from tests.integration.leading import restricted
from tests.integration.line import LEADING, OTHER, TERMINATE_LEADER, USER, MemorySink, installed, tried
from tests.integration.mending import until_unready
from tests.integration.play import ADD
from tests.integration.running import QUICK, running, until

STANDBY = (
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'creditsd leader' "
    f"AND pid NOT IN (SELECT pid {LEADING})"
)


async def test_a_second_daemon_stands_by_and_takes_over(installation: Database, settings: Settings) -> None:
    first_sink, second_sink = MemorySink(), MemorySink()
    async with running(settings, second_sink) as second:
        await until(second, "state", "leading")
        async with running(settings, first_sink) as first:
            await until(first, "state", "standby")
            assert first.health()["ready"]
            installation.run(ADD, [USER, 1])
            await second_sink.until_credits(USER, 1)
            assert first_sink.tries == 0
            second.stop()
            await until(first, "state", "leading")
            installation.run(ADD, [USER, 1])
            total = await first_sink.until_credits(USER, 2)
            assert total.version > second_sink.newest[USER].version
    # The same name is the same sink: what the one had delivered the other does not repeat.
    assert [total.credits for total in first_sink.totals] == [2]


async def test_a_standby_takes_over_from_a_leader_whose_session_is_ended(
    installation: Database, settings: Settings
) -> None:
    sinks = MemorySink(), MemorySink()
    async with running(settings, sinks[0]) as one:
        await until(one, "state", "leading")
        async with running(settings, sinks[1]) as other:
            await until(other, "state", "standby")
            installation.run(TERMINATE_LEADER)
            installation.run(ADD, [USER, 1])

            async def newest() -> list[Any]:
                return [sink.newest[USER].credits for sink in sinks if USER in sink.newest]

            await eventually(newest, lambda found: 1 in found)
            states = {str(each.health()["state"]) for each in (one, other)}
            assert "leading" in states


async def test_a_leader_that_stood_still_delivers_nothing_until_it_leads_anew(
    installation: Database, settings: Settings
) -> None:
    # It was stopped for half a minute, and another led by then: what it had in memory went out before it noticed.
    timings = replace(QUICK, election=replace(QUICK.election, stalled_seconds=0.5))
    with capture_logs() as logs:
        sink = Noting(logs)
        async with running(settings, sink, timings=timings):
            installation.run(ADD, [USER, 1])
            await sink.until_credits(USER, 1)
            sink.gate.clear()
            tries = sink.tries
            installation.run(ADD, [USER, 1])
            await eventually(partial(tried, sink), partial(lt, tries))
            installation.run(ADD, [OTHER, 1])
            await eventually(partial(stored, installation), lambda amount: amount == 1)
            led = leaderships(logs)
            sink.gate.set()
            time.sleep(2.0)  # noqa: ASYNC251  nothing of this process goes on meanwhile
            await sink.until_credits(OTHER, 1)
    assert sink.first[OTHER] > led
    (reason, *_) = [event["reason"] for event in logs if event["event"] == "daemon.interrupted"]
    assert "stood still" in reason


class Noting(MemorySink):
    """Notes how often somebody had begun to lead when it was first told of a user."""

    def __init__(self, logs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.logs = logs
        self.first: dict[str, int] = {}

    async def deliver(self, totals: Sequence[Total]) -> Sequence[Rejection]:
        for total in totals:
            self.first.setdefault(total.user_id, leaderships(self.logs))
        return await super().deliver(totals)


def leaderships(logs: Sequence[Mapping[str, Any]]) -> int:
    return [event["event"] for event in logs].count("daemon.led")


async def stored(database: Database) -> Any:
    rows = database.run("SELECT credits FROM creditsd.balances WHERE user_id = %s", [OTHER])
    return rows[0][0] if rows else None


async def test_whoever_loses_its_leaders_session_says_so_to_all_receivers_and_stands_by(
    installation: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The former leader went on trying refused deliveries beside the new one, and heeded no `sinks pause`.
    heard: list[str] = []
    monkeypatch.setattr(RecentTotals, "lead", lambda *_: heard.append("lead"))
    monkeypatch.setattr(RecentTotals, "step_down", lambda _: heard.append("step_down"))
    async with running(settings) as former:
        await until(former, "doorbell", "asleep")
        async with running(settings) as successor:
            await until(successor, "state", "standby")
            assert heard == ["lead"]
            installation.run(TERMINATE_LEADER)
            await until(former, "state", "standby")  # though nothing has rung
            await until(successor, "state", "leading")
            assert sorted(heard) == ["lead", "lead", "step_down"]
    assert heard.count("step_down") == heard.count("lead")  # the former may have led once more


async def test_what_must_be_mended_of_the_table_is_said_by_the_daemon_that_leads(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    says = r"triggers are disabled on public\.user_credits"
    async with running(settings) as former, running(settings) as successor:
        daemons = {former, successor}

        async def leaders() -> set[Daemon]:
            return {each for each in daemons if each.health()["state"] == "leading"}

        async def changed() -> bool:
            if await leaders() == first:
                reference_table.run(TERMINATE_LEADER)
            return await leaders() == daemons - first

        first = await eventually(leaders, lambda found: len(found) == 1)
        (leader,), (standby,) = first, daemons - first
        await until(standby, "state", "standby")
        reference_table.run("ALTER TABLE user_credits DISABLE TRIGGER USER")
        await until_unready(leader, says)
        assert standby.health()["ready"]
        await eventually(changed)
        await until_unready(standby, says)
        await until(leader, "state", "standby")
        await until(leader, "problem", None)


NEVER_ASKS = replace(QUICK, election=election.Timings(standby_seconds=3600.0))


@pytest.mark.parametrize("pace", [{}, {"wakeup": "poll", "poll_seconds": 3600.0}], ids=["doorbell", "poll"])
async def test_a_leader_that_ends_hands_the_lead_over_to_a_standby_that_would_not_have_asked(
    reference_table: Database, pace: dict[str, Any]
) -> None:
    settings = await installed(reference_table, **pace)
    sinks = [MemorySink() for _ in range(3)]
    async with running(settings, sinks[0], timings=NEVER_ASKS) as leader:
        await until(leader, "state", "leading")
        async with (
            running(settings, sinks[1], timings=NEVER_ASKS) as one,
            running(settings, sinks[2], timings=NEVER_ASKS) as other,
        ):
            for each in (one, other):
                await until(each, "state", "standby")
            await eventually(lambda: resting(reference_table), lambda found: found == 2)
            async with Inspector.opened(settings, purpose="status") as inspector:
                status = await inspector.status()
            assert (status.leader_address, len(status.standbys)) == ("127.0.0.1", 2)
            assert set(status.standbys) == {"127.0.0.1"}
            leader.stop()

            async def states() -> list[str]:
                return sorted([one.state, other.state])

            await eventually(states, lambda found: found == ["leading", "standby"])
            heir, last = (one, other) if one.state == "leading" else (other, one)
            await eventually(lambda: resting(reference_table), lambda found: found == 1)
            reference_table.run(ADD, [USER, 1])
            heir.stop()
            await until(last, "state", "leading")

            async def told() -> int:
                return sum(len(each.totals) for each in sinks)

            await eventually(told, lambda totals: totals == 1)


async def resting(database: Database) -> int:
    """How many stand by and rest: the last they ask before that, having listened, is for the newest version."""
    asked = "state = 'idle' AND query LIKE '%b.version DESC LIMIT 1%'"
    return int(database.run(f"SELECT count(*) {STANDBY} AND {asked}")[0][0])


async def test_a_standby_that_polls_leaves_a_server_alone_that_ended_its_session(reference_table: Database) -> None:
    settings = await installed(reference_table, wakeup="poll", poll_seconds=3600.0)
    async with running(settings) as leader:
        await until(leader, "state", "leading")
        with capture_logs() as logs:
            async with running(settings, MemorySink()) as standby:
                await until(standby, "state", "standby")
                await eventually(lambda: resting(reference_table), lambda found: found == 1)
                reference_table.run(f"SELECT pg_terminate_backend(pid) {STANDBY}")

                async def ended() -> list[Any]:
                    return [each for each in logs if each["event"] == "daemon.session_ended"]

                assert (await eventually(ended))[0]["next_try_seconds"] > 1000
                assert standby.state == "standby"
                assert reference_table.run(f"SELECT {STANDBY}") == []


async def told(sink: MemorySink) -> int:
    return sink.tries


async def test_a_leader_that_ends_keeps_the_lock_until_what_is_stored_has_arrived(
    installation: Database, settings: Settings
) -> None:
    slow, sink = MemorySink(), MemorySink()
    async with running(settings, sink) as standby_later:
        await until(standby_later, "state", "leading")
        async with running(settings, slow) as leader:
            await until(leader, "state", "standby")
            standby_later.stop()
            await until(leader, "state", "leading")
            async with running(settings, sink) as standby:
                await until(standby, "state", "standby")
                slow.gate.clear()
                installation.run(ADD, [USER, 1])
                await eventually(lambda: told(slow), lambda tries: tries == 1)
                leader.stop()
                await until(leader, "doorbell", None)
                assert standby.state == "standby"
                slow.gate.set()
                await until(standby, "state", "leading")
    assert [total.credits for total in slow.totals] == [1]
    assert sink.totals == []


REVOKED = "REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn(), pg_control_system() FROM PUBLIC"
# PostgreSQL finds what is built in by its number, whatever stands in the catalog: so another takes over the name.
NOT_SUPPORTED = """
SET allow_system_table_mods = on;
ALTER FUNCTION pg_catalog.pg_current_wal_insert_lsn() RENAME TO former_insert_lsn;
CREATE FUNCTION pg_catalog.pg_current_wal_insert_lsn() RETURNS pg_lsn LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Function pg_current_wal_insert_lsn() is currently not supported' USING ERRCODE = '55000';
END $$
"""


@pytest.mark.parametrize("refusal", [REVOKED, NOT_SUPPORTED], ids=["revoked", "not supported"])
async def test_where_the_server_may_not_be_asked_which_it_is_it_leads_all_the_same_and_says_so_once(
    reference_table: Database, refusal: str
) -> None:
    # As on Amazon Aurora, which answers with 55000: it never led.
    with restricted(reference_table) as (owner, limited):
        reference_table.run(f"ALTER TABLE user_credits OWNER TO {owner}")
        reference_table.run(f"GRANT CREATE ON DATABASE {reference_table.name} TO {owner}")
        reference_table.run(refusal)
        settings = await installed(limited)
        sink = MemorySink()
        with capture_logs() as logs:
            async with running(settings, sink) as daemon:
                reference_table.run(ADD, [USER, 1])
                await sink.until_credits(USER, 1)
                await until(daemon, "doorbell", "asleep")
                reference_table.run(TERMINATE_LEADER)
                reference_table.run(ADD, [USER, 1])
                await sink.until_credits(USER, 2)
        events = [event["event"] for event in logs]
        assert events.count("daemon.led") == 2
        assert events.count("daemon.server_identified_coarsely") == 1
        assert "balances.republished" not in events
