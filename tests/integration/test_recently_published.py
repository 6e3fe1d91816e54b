"""Whom a server may have lost: remembered one by one, and batch by batch where many are published together."""

from __future__ import annotations

from creditsd.domain.total import Total
from creditsd.totals.republish import RecentlyPublished, Timings
from tests.integration.line import Line, user

LONG_AGO = "1970-01-02T00:00:00+00:00"


def totals(first: int, last: int) -> list[Total]:
    """A total a user, the version the same as the user's number."""
    return [Total.nothing(user(number))._replace(version=number) for number in range(first, last + 1)]


async def lost(line: Line, recent: RecentlyPublished, highest: int) -> set[int]:
    users = await recent.users(line.recomputer, started_at=LONG_AGO, highest=highest)
    return {int(user_id[-12:]) for user_id in users}


async def test_whoever_was_published_above_what_a_server_knows_is_named_however_many_at_once(line: Line) -> None:
    recent = RecentlyPublished()
    recent.lead(0)
    for first, last in ((1, 150), (151, 153), (154, 400)):
        recent.add(totals(first, last))
    assert await lost(line, recent, 400) == set()
    assert await lost(line, recent, 153) == set(range(154, 401))
    assert await lost(line, recent, 150) == set(range(151, 401))
    assert await lost(line, recent, 0) == set(range(1, 401))
    assert recent.remembers_after(0)


async def test_the_longest_ago_are_forgotten_first_and_that_is_known(line: Line) -> None:
    recent = RecentlyPublished(Timings(recent_users=250))
    recent.lead(0)
    for first, last in ((1, 2), (3, 202), (203, 204), (205, 500)):
        recent.add(totals(first, last))
    assert recent.remembers_after(0)
    recent.add(totals(501, 600))  # more than twice as many, each once: the oldest go, batch by batch
    assert (recent.remembers_after(500), recent.remembers_after(499)) == (True, False)
    assert await lost(line, recent, 0) == set(range(501, 601))


async def test_they_are_forgotten_one_by_one_where_they_were_published_apart(line: Line) -> None:
    recent = RecentlyPublished(Timings(recent_users=250))
    recent.lead(0)
    for first in range(1, 301, 50):
        recent.add(totals(first, first + 49))
    assert (recent.remembers_after(50), recent.remembers_after(49)) == (True, False)
    assert await lost(line, recent, 0) == set(range(51, 301))


async def test_users_who_are_published_again_and_again_stay_remembered(line: Line) -> None:
    recent = RecentlyPublished(Timings(recent_users=250))
    recent.lead(0)
    recent.add(totals(1, 40))
    for turn in range(1000):
        recent.add([each._replace(version=1000 * (turn + 1) + each.version) for each in totals(41, 240)])
        if turn % 100 == 0:
            recent.add([each._replace(version=1000 * (turn + 1) + 500) for each in totals(41, 41)])
    assert recent.remembers_after(0)
    assert await lost(line, recent, 0) == set(range(1, 241))
    assert await lost(line, recent, 40) == set(range(41, 241))
    assert await lost(line, recent, 1_000_240) == set()
