"""deliveries log: what a webhook was sent within a day, and what it answered."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from creditsd.admin.delivery_log import delivery_log
from creditsd.admin.forget import Eraser
from creditsd.config.settings import Settings
from creditsd.delivery.attempt_log import AttemptLog
from creditsd.delivery.attempt_purger import AttemptPurger
from creditsd.domain.delivery_attempt import DeliveryAttempt
from creditsd.domain.errors import InputError
from creditsd.postgres.connections import pool
from creditsd.sinks.webhook.message import Message, Parcel
from tests.acceptance.command import creditsd, environment
from tests.conftest import Database, eventually
from tests.integration.leading import leading, restricted
from tests.integration.line import OTHER, USER, Line, configured, installed
from tests.integration.publishing import ADD
from tests.servers import REFERENCE_TABLE, Reachable
from tests.sinks.harness import total
from tests.sinks.webhook_harness import KEY, SECRET, Receiver, always, opened

RUDE = "no\x1b[2J\u202e\n\tthanks " + "ä" * 300


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    endpoint = Receiver()
    await endpoint.start()
    yield endpoint
    await endpoint.stop()


def hook(receiver: Receiver, **options: Any) -> list[dict[str, Any]]:
    url = f"webhook+http://127.0.0.1:{receiver.port}/hooks"
    return [{"name": "hook", "url": url, "secret": SECRET, "allow_cidrs": ["127.0.0.0/8"], **options}]


async def logged(settings: Settings, count: int, limit: int = 100) -> Sequence[DeliveryAttempt]:
    async def read() -> Sequence[DeliveryAttempt]:
        return await delivery_log(settings, "hook", limit)

    return await eventually(read, lambda found: len(found) == count)


def attempt(user_id: str | None = None, number: int = 0, **changed: Any) -> DeliveryAttempt:
    at = changed.pop("at", datetime.now(UTC))
    return DeliveryAttempt(at, user_id, 1, f"msg_{number}", 200, 1, "arrived", "")._replace(**changed)


async def write(settings: Settings, *attempts: DeliveryAttempt, most_kept: int = 10_000) -> None:
    async with pool(settings.dsn, purpose="publisher", max_size=1) as connections:
        await AttemptLog(lambda: [("hook", attempts)], most_kept=most_kept).write(connections)


async def test_each_attempt_is_told_with_the_answer_the_newest_first(
    reference_table: Database, receiver: Receiver
) -> None:
    with restricted(reference_table) as (role, seen):
        await installed(reference_table, role=role)
        settings = configured(seen, role=role, sinks=hook(receiver, schedule=["1s", "1d"]))
        receiver.answer = always(422, RUDE)
        async with leading(settings):
            reference_table.run(ADD, [USER, 1])
            second, first = await logged(settings, 2)
            receiver.answer = always(200, f"got {KEY.rstrip('=')} it")
            reference_table.run(ADD, [OTHER, 1])
            newest = (await logged(settings, 3))[0]
            assert await logged(settings, 1, limit=1) == [newest]
    assert (first.user_id, first.users, first.status, first.result) == (USER, 1, 422, "refused")
    assert first.webhook_id == second.webhook_id == receiver.deliveries[0].headers["webhook-id"]
    assert first.at < second.at < newest.at
    assert first.answer.startswith("no\\x1b[2J\\u202e thanks ää")
    assert len(first.answer.encode()) <= 200
    assert 0 <= first.milliseconds < 60_000
    assert (newest.user_id, newest.status, newest.result) == (OTHER, 200, "arrived")
    assert newest.answer == "got *** it"


async def test_a_request_without_an_answer_says_why_and_one_of_many_users_names_none(receiver: Receiver) -> None:
    async with opened(receiver, batch=10) as sink:
        assert await sink.deliver([total("u1"), total("u2")]) == []
        await receiver.stop()
        with pytest.raises(Exception, match="refused"):
            await sink.deliver([total("u3")])
        together, alone = sink.attempts()  # type: ignore[attr-defined]
        assert sink.attempts() == []  # type: ignore[attr-defined]
    assert (together.user_id, together.users, together.status) == (None, 2, 204)
    assert (alone.user_id, alone.status, alone.result) == ("u3", None, "unavailable")
    assert "refused" in alone.answer


@pytest.mark.parametrize("padding", [0, 900, 990, 1000, 1010])
async def test_no_secret_is_told_not_even_one_that_was_read_half(receiver: Receiver, padding: int) -> None:
    receiver.answer = always(200, " " * padding + f"{KEY} {SECRET}")
    async with opened(receiver) as sink:
        await sink.deliver([total("u1")])
        (found,) = sink.attempts()  # type: ignore[attr-defined]
    assert not any(KEY[:length] in found.answer for length in range(4, len(KEY)))


async def test_of_many_in_a_moment_the_few_that_failed_are_kept(receiver: Receiver) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404 if '"u7"' in (await request.text()) else 200)

    receiver.answer = answer
    async with opened(receiver) as sink:
        await sink.deliver([total(f"u{number}") for number in range(600)])
        found = sink.attempts()  # type: ignore[attr-defined]
    assert len(found) == 251
    assert [each.user_id for each in found if each.result == "refused"] == ["u7"]


async def test_it_can_be_switched_off(receiver: Receiver) -> None:
    async with opened(receiver, log_attempts=False) as sink:
        await sink.deliver([total("u1")])
        assert sink.attempts() == []  # type: ignore[attr-defined]
    assert len(receiver.deliveries) == 1


async def test_no_more_are_kept_than_the_bound_says_and_none_longer_than_a_day(reference_table: Database) -> None:
    settings = await installed(reference_table, sinks=[{"name": "hook", "url": "stdout:"}])
    for page in range(5):
        await write(settings, *(attempt(number=page * 10 + number) for number in range(10)), most_kept=20)
    kept = reference_table.run("SELECT webhook_id FROM creditsd.attempts ORDER BY number")
    assert [name for (name,) in kept] == [f"msg_{number}" for number in range(20, 50)]
    old = datetime.now(UTC) - timedelta(days=1, minutes=1)
    await write(settings, attempt(number=99, at=old))
    assert "msg_99" not in [each.webhook_id for each in await delivery_log(settings, "hook", 100)]
    async with pool(settings.dsn, purpose="publisher", max_size=1) as connections:
        purging = asyncio.create_task(AttemptPurger().run(connections))

        async def left() -> int:
            return len(reference_table.run("SELECT FROM creditsd.attempts WHERE webhook_id = 'msg_99'"))

        await eventually(left, lambda found: not found)
        purging.cancel()
        await asyncio.wait([purging])
    assert len(reference_table.run("SELECT FROM creditsd.attempts")) == 30


async def test_a_user_who_is_forgotten_is_gone_from_it_and_comes_back_by_no_late_line(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table)
    for name in (USER, OTHER):
        reference_table.run(ADD, [name, 1])
    async with leading(settings):
        pass
    tried = [attempt(USER), attempt(OTHER), attempt(None, users=2, answer=f"no such user: {USER}")]
    named = configured(reference_table, sinks=[{"name": "hook", "url": "stdout:"}])
    await write(named, *tried)
    assert len(await delivery_log(named, "hook", 10)) == 3
    reference_table.run("DELETE FROM user_credits WHERE user_id = %s", [USER])
    async with Eraser.opened(settings) as eraser:
        await eraser.forget(USER)
    await write(named, attempt(USER), attempt(OTHER))
    assert [each.user_id for each in await delivery_log(named, "hook", 10)] == [OTHER, OTHER]


async def test_nothing_of_what_was_sent_is_kept_until_it_is_written_down(receiver: Receiver) -> None:
    async with opened(receiver, batch=10) as sink:
        await sink.deliver([total(f"u{number}") for number in range(30)])
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, Parcel | Message)] == []
        assert [each.users for each in sink.attempts()] == [10, 10, 10]  # type: ignore[attr-defined]


async def test_a_write_that_gets_nowhere_gives_its_connection_back(reference_table18: Database) -> None:
    settings = await installed(reference_table18, sinks=[{"name": "hook", "url": "stdout:"}])
    async with pool(settings.dsn, purpose="publisher", max_size=1) as connections:
        async with reference_table18.connect(autocommit=False) as stranger:
            await stranger.execute("LOCK TABLE creditsd.attempts")
            async with asyncio.timeout(60):
                await AttemptLog(lambda: [("hook", [attempt(number=1)])], longest_seconds=0.1).write(connections)
        await AttemptLog(lambda: [("hook", [attempt(number=2)])]).write(connections)
    assert [each.webhook_id for each in await delivery_log(settings, "hook", 10)] == ["msg_2"]


async def test_a_late_batch_whose_answer_names_a_user_who_is_forgotten_is_not_written(
    reference_table18: Database, receiver: Receiver
) -> None:
    settings = await installed(reference_table18)
    reference_table18.run(ADD, [OTHER, 1])
    async with leading(settings):
        pass
    receiver.answer = always(200, f"took {USER.upper()} and another")
    async with opened(receiver, batch=10) as sink:
        await sink.deliver([total(USER), total(OTHER)])
        receiver.answer = always(200, f"took {OTHER} and another")
        await sink.deliver([total(USER), total(OTHER)])
        found = sink.attempts()  # type: ignore[attr-defined]
    named = configured(reference_table18, sinks=[{"name": "hook", "url": "stdout:"}])
    await write(named, *found)
    assert [each.answer for each in await delivery_log(named, "hook", 10)] == [f"took {OTHER} and another"]


async def test_a_short_id_is_found_in_answers_as_a_word_alone(database18: Database) -> None:
    database18.run("CREATE TABLE user_credits (user_id bigint, credits int, status text)")
    settings = await installed(database18, sinks=[{"name": "hook", "url": "stdout:"}])
    told = ["took 17 users in 70 ms", "no user 7", '{"user_id":7}', "user_7, user_8", "all 2777"]
    await write(settings, *(attempt(None, users=2, answer=each) for each in told))
    plain = configured(database18)
    async with Eraser.opened(plain) as eraser:
        await eraser.forget("7")
    assert [each.answer for each in await delivery_log(settings, "hook", 10)] == ["all 2777", "took 17 users in 70 ms"]


async def test_a_line_that_is_being_written_while_its_user_is_forgotten_does_not_stay(
    reference_table: Database,
) -> None:
    settings = await installed(reference_table, sinks=[{"name": "hook", "url": "stdout:"}])
    reference_table.run(ADD, [USER, 1])
    async with Line.settled(configured(reference_table)):
        pass
    reference_table.run("DELETE FROM user_credits")

    async def waits() -> list[tuple[Any, ...]]:
        return reference_table.run(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )

    async with (
        reference_table.connect(autocommit=False) as writer,
        Eraser.opened(configured(reference_table)) as eraser,
    ):
        await writer.execute(
            "INSERT INTO creditsd.attempts (sink, at, user_id, users, webhook_id, milliseconds, result, answer) "
            "VALUES ('hook', now(), %s, 1, 'msg_1', 1, 'arrived', '')",
            [USER],
        )
        forgetting = asyncio.create_task(eraser.forget(USER))

        async def met() -> bool:
            return forgetting.done() or bool(await waits())

        await eventually(met)
        await writer.commit()
        await forgetting
    assert await delivery_log(settings, "hook", 10) == []


@contextlib.contextmanager
def encoded(server: Reachable, encoding: str) -> Iterator[Database]:
    name = f"logged_{encoding.lower()}_{os.getpid()}_{server.version}"
    with server.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    try:
        yield Database(server, name, server.dsn(name, client_encoding="utf8"))
    finally:
        server.drop_database(name)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("LATIN1", r"\u660e\u65e5 caf\xe9 \x00"), ("SQL_ASCII", r"明日 café \x00"), ("UTF8", r"明日 café \x00")],
)
async def test_an_answer_that_the_database_has_no_letters_for_is_told_in_other_letters(
    postgres_server: Reachable, receiver: Receiver, encoding: str, told: str
) -> None:
    with encoded(postgres_server, encoding) as database:
        database.run(REFERENCE_TABLE)
        settings = await installed(database, sinks=hook(receiver, schedule=["1d"]))
        async with leading(settings):
            receiver.answer = always(200, "明日 café \0")
            database.run(ADD, [USER, 1])
            (taken,) = await logged(settings, 1)
            receiver.answer = always(422, "明日 café \0")
            database.run(ADD, [OTHER, 1])
            refused, _ = await logged(settings, 2)
            assert (taken.result, taken.answer) == ("arrived", told)
            assert (refused.result, refused.answer) == ("refused", told)

            async def kept() -> list[tuple[Any, ...]]:
                return database.run("SELECT user_id::text, last_error FROM creditsd.deliveries")

            ((user_id, said),) = await eventually(kept, bool)
            assert (user_id, told in said) == (OTHER, True)
            receiver.answer = always(503, "明日")
            database.run(ADD, [USER, 1])

            async def ill() -> list[tuple[Any, ...]]:
                return database.run("SELECT FROM creditsd.sinks WHERE strpos(last_error, %s) > 0", [told[:2]])

            await eventually(ill, bool)


async def test_whatever_the_database_says_to_it_ends_nothing_and_is_said_once(reference_table18: Database) -> None:
    settings = await installed(reference_table18, sinks=[{"name": "hook", "url": "stdout:"}])
    reference_table18.run("ALTER TABLE creditsd.attempts ADD CHECK (webhook_id <> 'msg_1')")
    taken = [attempt(number=1)]
    async with pool(settings.dsn, purpose="publisher", max_size=1) as connections:
        written = AttemptLog(lambda: [("hook", taken)])
        with capture_logs() as logs:
            await written.write(connections)
            await written.write(connections)
            taken = [attempt(number=2)]
            await written.write(connections)
    assert [each.webhook_id for each in await delivery_log(settings, "hook", 10)] == ["msg_2"]
    assert [each["log_level"] for each in logs if each["event"] == "attempts.left_unwritten"] == ["warning", "debug"]


async def test_the_command_prints_json_lines_and_knows_the_sinks(reference_table18: Database) -> None:
    sinks = [{"name": "hook", "url": "stdout:"}]
    settings = await installed(reference_table18, sinks=sinks)
    await write(settings, attempt(number=1), attempt(number=2, status=None, result="unavailable", answer="no answer"))
    env = environment(CREDITSD_DSN=reference_table18.dsn, CREDITSD_SINKS=orjson.dumps(sinks).decode())
    done = await creditsd("deliveries", "log", "hook", "--limit", "1", env=env)
    assert (done.code, done.json["webhook_id"], done.json["answer"]) == (0, "msg_2", "no answer")
    assert len((await creditsd("deliveries", "log", "hook", env=env)).out.splitlines()) == 2
    done = await creditsd("deliveries", "log", "hok", env=env)
    assert (done.code, done.err.count("\n")) == (65, 1), done.err
    with pytest.raises(InputError, match="did you mean hook"):
        await delivery_log(settings, "hok", 1)


async def test_what_was_sent_just_before_an_end_is_in_it(reference_table18: Database, receiver: Receiver) -> None:
    settings = await installed(reference_table18, sinks=hook(receiver))
    async with leading(settings):
        reference_table18.run(ADD, [USER, 1])
        await receiver.asked(1)
    assert [each.user_id for each in await delivery_log(settings, "hook", 10)] == [USER]
