"""A partitioned table, and the schema of a database as text."""

from __future__ import annotations

import re

from tests.conftest import Database

PARTITIONED = """
CREATE TABLE user_credits (
    user_id uuid, credits integer, status text, plan_type text, region text NOT NULL
) PARTITION BY LIST (region);
CREATE TABLE credits_eu PARTITION OF user_credits FOR VALUES IN ('eu');
CREATE TABLE credits_us PARTITION OF user_credits FOR VALUES IN ('us') PARTITION BY LIST (region);
CREATE TABLE "Credits us" PARTITION OF credits_us FOR VALUES IN ('us');
"""


def dump(database: Database) -> str:
    """The whole schema as pg_dump writes it, without what differs from version to version."""
    text = database.pg_dump("--schema-only", "--no-owner")
    # How a view is written back: before 16 each column of a single table is still qualified.
    text = re.sub(r"(?s)(?<=CREATE VIEW).*?;", lambda view: re.sub(r"\bline\.", "", view[0]), text)
    # From 18 on, a partition's NOT NULL has a name: its parent's.
    text = re.sub(r" CONSTRAINT \w+_not_null(?= NOT NULL)", "", text)
    lines = [
        line for line in text.splitlines() if line and not re.match(r"--|SET |SELECT pg_catalog\.set_config", line)
    ]
    return "\n".join(lines).replace(database.name, "test") + "\n"
