"""Alembic and Django migrate a table that creditsd is installed for, and see nothing of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.acceptance.command import environment
from tests.acceptance.conftest import ONE, Operator
from tests.conftest import Database

PAGE = (Path(__file__).parents[2] / "docs" / "altering.md").read_text()
SPEND = "UPDATE user_credits SET credits = credits - 1 WHERE credits = 100"
TRIGGERS = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgname LIKE 'creditsd%' ORDER BY 1"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of an application's, and the tool that is run in it."""

    folder: Path
    tool: Sequence[str]
    dsn: str

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        env = environment(APP_DSN=self.dsn, DJANGO_SETTINGS_MODULE="settings", PYTHONPATH=os.fspath(self.folder))
        command = [sys.executable, "-B", "-m", *self.tool, *args]
        return subprocess.run(command, cwd=self.folder, env=env, check=False, capture_output=True, text=True)

    def must(self, *args: str) -> str:
        """Run the tool, which must succeed; return what it printed."""
        done = self.run(*args)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout + done.stderr


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a tool printed that must have failed."""
    assert done.returncode != 0
    return done.stdout


async def right(operator: Operator, *done: str, **settings: str) -> None:
    """Check that `install` has this to do, and that what is then written is captured and right."""
    before = operator.database.run(TRIGGERS)
    assert len(before) == 4
    said = await operator.creditsd("install", **settings)
    assert said.code == 0, said.err
    assert [line for line in (said.out + said.err).splitlines() if "has no column" not in line] == list(done)
    operator.database.run("DELETE FROM creditsd.changes")
    operator.database.run(SPEND)
    assert operator.database.run("SELECT user_id::text FROM creditsd.changes") == [(ONE,)]
    operator.database.run(SPEND.replace("- 1", "+ 1").replace("100", "99"))
    got = await operator.creditsd("get", ONE, **settings)
    assert got.json["data"]["credits"] == 120, got.err
    assert operator.database.run(TRIGGERS) == before


# Alembic.

TABLES = """
from sqlalchemy import (
    BigInteger, Column, DateTime, Index, Integer, MetaData, Numeric, String, Table, Text, Uuid, text
)

metadata = MetaData()
Table(
    "user_credits", metadata,
    Column("id", BigInteger, primary_key=True),
    Column("user_id", Uuid),
    Column("credits", Integer),
    Column("status", Text),
    Column("plan_type", Text),
    Column("membership", Text),
    Column("subscription_id", Text),
    Column("expires_at", DateTime(timezone=True)),
    Column("created_at", DateTime(timezone=True), server_default=text("now()")),
    Index("user_credits_user_id", "user_id"),
)
"""
RETYPED = (
    ('"status", Text', '"status", String(20)'),
    ('"credits", Integer', '"credits", Numeric(12, 2)'),
    ('"plan_type", Text', '"plan_type", String(20)'),
    ('"membership", Text', '"membership", String(100)'),
    ('    Index(', '    Column("note", Text),\n    Index('),
)  # fmt: skip
ENV = """
import os
import psycopg
from alembic import context
from sqlalchemy import create_engine
from tables import metadata

engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(os.environ["APP_DSN"]))
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        {options}
    )
    with context.begin_transaction():
        context.run_migrations()
"""
RENAMES = """
from alembic import op

revision, down_revision, branch_labels, depends_on = "renames", {after!r}, None, None

def upgrade():
    op.alter_column("user_credits", "membership", new_column_name="plan")
    op.drop_column("user_credits", "subscription_id")
    op.rename_table("user_credits", "wallet")
    op.rename_table("wallet", "user_credits")
"""
LINE = re.search(r"include_name=lambda [^`]*", PAGE)


@pytest.fixture
def alembic(operator: Operator, tmp_path: Path) -> Project:
    """A project whose models are the table as it is, and that has migrated nothing yet."""
    project = Project(tmp_path, ["alembic"], operator.database.dsn)
    project.write("alembic.ini", "[alembic]\nscript_location = .\nprepend_sys_path = .\npath_separator = os\n")
    project.write("script.py.mako", MAKO)
    project.write("versions/.keep", "")
    project.write("tables.py", TABLES)
    project.write("env.py", ENV.format(options=""))
    return project


MAKO = """
from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

def upgrade():
    ${upgrades if upgrades else "pass"}
"""


async def test_alembic_sees_nothing_of_ours(operator: Operator, alembic: Project) -> None:
    await operator.install()
    assert "No new upgrade operations" in alembic.must("check")
    alembic.write("env.py", ENV.format(options="include_schemas=True"))
    assert "schema='creditsd'" in refusal(alembic.run("check"))  # which is why the documents give this line
    assert LINE is not None
    alembic.write("env.py", ENV.format(options=f"include_schemas=True, {LINE.group()}"))
    assert "No new upgrade operations" in alembic.must("check")


async def test_alembic_alters_renames_and_drops_columns_beside_creditsd(operator: Operator, alembic: Project) -> None:
    await operator.install()
    await right(operator, "nothing to do: everything is installed")
    tables = TABLES
    for old, new in RETYPED:
        assert old in tables
        tables = tables.replace(old, new)
    alembic.write("tables.py", tables)
    alembic.must("revision", "--autogenerate", "--rev-id", "retyped")
    (made,) = alembic.folder.glob("versions/retyped_*.py")
    assert "creditsd" not in made.read_text()
    alembic.must("upgrade", "head")
    await right(operator, "nothing to do: everything is installed")
    alembic.write("versions/renames.py", RENAMES.format(after="retyped"))
    alembic.must("upgrade", "head")
    renamed = {"CREDITSD_SOURCE__COLUMNS__MEMBERSHIP": "plan"}
    await right(operator, "made the functions", **renamed)


# Django.

MODEL = """
from django.db import models

class Credits(models.Model):
    id = models.BigAutoField(primary_key=True)
    user_id = models.UUIDField(null=True, db_index=True)
    credits = models.IntegerField(null=True)
    status = models.CharField(max_length=20)
    plan_type = models.TextField(null=True)
    membership = models.TextField(null=True)
    subscription_id = models.TextField(null=True)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "user_credits"
"""
ALTERED = (
    ("status = models.CharField(max_length=20)", "status = models.TextField()"),
    (
        "credits = models.IntegerField(null=True)",
        "credits = models.DecimalField(null=True, max_digits=12, decimal_places=2)",
    ),
    ("plan_type = models.TextField(null=True)", "plan_type = models.CharField(null=True, max_length=20)"),
    ("membership = models.TextField(null=True)", "membership = models.CharField(null=True, max_length=100)"),
    ("    created_at = models.DateTimeField(auto_now_add=True)\n", ""),
)
OF_USER = (
    "user_id = models.UUIDField(null=True, db_index=True)",
    "user_id = models.CharField(null=True, max_length=36, db_index=True)",
)
RENAMED = """
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", {after!r})]
    operations = [
        migrations.RenameField("Credits", "membership", "plan"),
        migrations.RemoveField("Credits", "subscription_id"),
        migrations.AlterModelTable("Credits", "wallet"),
        migrations.AlterModelTable("Credits", "user_credits"),
    ]
"""


@pytest.fixture
def django(database18: Database, tmp_path: Path) -> Project:
    """A project that has made its table by a migration, with somebody's rows in it."""
    project = Project(tmp_path, ["django"], database18.dsn)
    keys = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER", "password": "PASSWORD"}
    target = {keys[name]: str(value) for name, value in conninfo_to_dict(database18.dsn).items() if name in keys}
    database = {"ENGINE": "django.db.backends.postgresql", **target}
    project.write(
        "settings.py",
        f"SECRET_KEY = 'x'\nINSTALLED_APPS = ['shop']\nUSE_TZ = True\nDATABASES = {{'default': {database!r}}}\n",
    )
    project.write("shop/__init__.py", "")
    project.write("shop/migrations/__init__.py", "")
    project.write("shop/models.py", MODEL)
    project.must("makemigrations", "shop", "--name", "first")
    project.must("migrate")
    database18.run(
        "INSERT INTO user_credits (user_id, credits, status, plan_type, membership, created_at) VALUES "
        "(%s, 100, 'active', 'subscription', 'Pro', now()), (%s, 20, 'active', 'one_time', 'Pack', now())",
        [ONE, ONE],
    )
    return project


async def test_django_sees_nothing_of_ours(database18: Database, django: Project) -> None:
    operator = Operator(database18, environment(CREDITSD_DSN=database18.dsn))
    await operator.install()
    django.must("makemigrations", "--check")
    found = django.must("inspectdb", "--include-partitions", "--include-views")
    assert re.findall(r"db_table = '(.*)'", found) == ["django_migrations", "user_credits"]


async def test_django_alters_renames_and_drops_columns_beside_creditsd(database18: Database, django: Project) -> None:
    operator = Operator(database18, environment(CREDITSD_DSN=database18.dsn))
    await operator.install()
    model = MODEL
    for old, new in ALTERED:
        assert old in model
        model = model.replace(old, new)
    django.write("shop/models.py", model)
    django.must("makemigrations", "shop", "--name", "altered")
    django.must("migrate")
    await right(operator, "made the functions")  # without created_at
    django.write("shop/models.py", model.replace(*OF_USER))
    django.must("makemigrations", "shop", "--name", "of_user")
    django.must("migrate")
    await right(
        operator, "gave user_id the type character varying", "made the functions", "asked for everyone to be recomputed"
    )
    django.write("shop/migrations/0004_renamed.py", RENAMED.format(after="0003_of_user"))
    django.must("migrate")
    await right(operator, "made the functions", CREDITSD_SOURCE__COLUMNS__MEMBERSHIP="plan")
    assert "creditsd" not in "".join(path.read_text() for path in django.folder.glob("shop/migrations/*.py"))
