"""A table whose rows are of several kinds, and installations that count some of them by `source.where`."""

from __future__ import annotations

from typing import Any

from creditsd.config.settings import Settings
from tests.conftest import Database
from tests.integration.line import installed
from tests.servers import REFERENCE_TABLE

ADD = "INSERT INTO user_credits (user_id, credits, status, plan_type, kind) VALUES (%s, %s, 'active', %s, %s)"
IMAGES = "kind = 'image'"
PACK = "one_time"
NONE_MATCHES = "no row of public.user_credits matches source.where: nobody has any credits"


def with_kinds(database: Database, type_: str = "text") -> None:
    database.run(REFERENCE_TABLE)
    database.run(f"ALTER TABLE user_credits ADD kind {type_}, ADD deleted_at timestamptz, ADD share integer")


async def where(database: Database, condition: str, **settings: Any) -> Settings:
    return await installed(database, source={"where": condition}, **settings)


def statuses(database: Database) -> list[str]:
    return [status for (status,) in database.run("SELECT status FROM user_credits ORDER BY id")]
