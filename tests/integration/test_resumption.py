"""When everyone must be looked at again after a start."""

from __future__ import annotations

import pytest

from creditsd.config.settings import Settings
from tests.integration.line import USER, Line
from tests.integration.play import ADD, Session


async def test_the_first_start_and_nothing_else_is_a_first_start(settings: Settings) -> None:
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing == "first start"
        await line.settle()
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing is None
        assert not line.resumption.restarted


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        ("UPDATE creditsd.reader SET system_identifier = 1", "another server"),
        ("UPDATE creditsd.reader SET home = '1 2'", "restored"),
        (
            "UPDATE creditsd.reader SET snapshot = '99999999:99999999:'::pg_snapshot, purged = '99999999:99999999:'",
            "cursor in the future",
        ),
        ("DELETE FROM creditsd.reader", "first start"),
        ("UPDATE creditsd.reader SET policy = 'as it was'", "policy changed"),
        ("UPDATE creditsd.reader SET fingerprint = '1 2 3'", "table changed"),
    ],
)
async def test_another_history_or_another_policy_means_everyone(
    application: Session, settings: Settings, damage: str, cause: str
) -> None:
    async with Line.settled(settings):
        pass
    await application.execute("ALTER TABLE user_credits DISABLE TRIGGER creditsd_insert")
    await application.execute(ADD, [USER, 5])
    await application.execute("ALTER TABLE user_credits ENABLE ALWAYS TRIGGER creditsd_insert")
    await application.execute(damage.encode())
    async with Line.opened(settings) as line:
        assert line.resumption.resyncing == cause
        assert [total.credits for total in await line.settle()] == [5]
        await application.execute(ADD, [USER, 5])
        assert [total.credits for total in await line.settle()] == [10]
