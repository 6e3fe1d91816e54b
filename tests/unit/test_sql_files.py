from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

import pytest
from psycopg import sql

from creditsd.domain.errors import CreditsdError
from creditsd.postgres import sql_files

RECORD = Path(__file__).parents[1] / "golden" / "migrations.sha256"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "migrations").mkdir()
    monkeypatch.setattr(sql_files, "_folder", lambda: tmp_path)
    return tmp_path


def test_the_folder_is_found() -> None:
    assert sql_files._folder().name == "sql"


def test_migrations_come_in_the_order_of_their_numbers(folder: Path) -> None:
    for name in ("0002_later", "0001_first", "0010_last"):
        (folder / "migrations" / f"{name}.sql").write_text("SELECT 1")
    assert sql_files.migrations() == [
        (1, "migrations/0001_first"),
        (2, "migrations/0002_later"),
        (10, "migrations/0010_last"),
    ]


@pytest.mark.parametrize("name", ["0001_other", "1_short", "note"])
def test_a_migration_without_a_place_is_refused(folder: Path, name: str) -> None:
    (folder / "migrations" / "0001_first.sql").touch()
    (folder / "migrations" / f"{name}.sql").touch()
    with pytest.raises(CreditsdError, match="migration"):
        sql_files.migrations()


def test_a_query_that_is_not_there_says_where_it_was_sought() -> None:
    with pytest.raises(CreditsdError, match="queries/no_such"):
        sql_files.sql("queries/no_such")


def test_all_is_kept_so_that_an_upgrade_may_replace_it_under_a_running_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reads in ("_text", "_named"):
        monkeypatch.setattr(sql_files, reads, cache(getattr(sql_files, reads).__wrapped__))
    for name in ("asked", "leader_pid", "users_changed", "changes_unread"):
        (folder / f"{name}.sql").write_text("SELECT 1")
    (folder / "migrations" / "0001_first.sql").write_text("SELECT 2")
    assert sql_files.keep_all() == 5
    (folder / "asked.sql").unlink()
    (folder / "migrations" / "0001_first.sql").write_text("SELECT 3")
    assert sql_files.filled("asked", "creditsd") == "SELECT 1"
    assert sql_files.filled("migrations/0001_first", "creditsd") == "SELECT 2"


# Another name for the schema

FOLDER = Path(sql_files.__file__).parents[2] / "sql"
FILES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.sql"))
OURS = [name for name in FILES if not name.startswith(("bench/", "demo/"))]

# What may still say creditsd: the command, and the one who speaks; in comments, and in what people are told.
PROSE = re.compile(
    r"creditsd\.(?:careful\b|marked_)"
    r"|\"creditsd (?:install|uninstall|backfill|verify)\b|creditsd''s words|'creditsd: each user|by creditsd alone"
    r"|'creditsd_bench'|'creditsd (?:could not|sets|would expire) |that creditsd was installed for"
)


@pytest.mark.parametrize("name", OURS)
def test_under_another_name_nothing_means_the_first(name: str) -> None:
    text = sql_files._named(name, "other_kind")
    assert "creditsd" not in PROSE.sub("", text.replace("_creditsd_other_kind", ""))  # the names of its triggers


@pytest.mark.parametrize("name", FILES)
def test_under_its_own_name_every_text_stays_as_it_is_written(name: str) -> None:
    assert sql_files._named(name, "creditsd") == (FOLDER / f"{name}.sql").read_text()


@pytest.mark.parametrize("name", [name for name in FILES if name not in OURS])
def test_what_is_about_no_installation_has_one_text(name: str) -> None:
    assert sql_files._named(name, "other_kind") == sql_files._named(name, "creditsd")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("FROM creditsd.changes AS c", "FROM other.changes AS c"),
        ("'creditsd.changes'::regclass", "'other.changes'::regclass"),
        ("format('ALTER TABLE creditsd.%I', x)", "format('ALTER TABLE other.%I', x)"),
        ("'creditsd.' || quote_ident(p)", "'other.' || quote_ident(p)"),
        ("nspname = 'creditsd'", "nspname = 'other'"),
        ("CREATE SCHEMA creditsd;", "CREATE SCHEMA other;"),
        ("NOTIFY creditsd;", "NOTIFY other;"),
        ("pg_notify('creditsd_lead', '')", "pg_notify('other_lead', '')"),
        ("hashtextextended('creditsd install', 0)", "hashtextextended('other install', 0)"),
        ("application_name = 'creditsd leader'", "application_name = 'other leader'"),
        ("CREATE TRIGGER creditsd_insert", "CREATE TRIGGER insert_creditsd_other"),
        ("SET LOCAL creditsd.careful = on", "SET LOCAL creditsd.careful = on"),
        ("set_config('creditsd.marked_' || oid", "set_config('creditsd.marked_' || oid"),
        ("RAISE WARNING 'creditsd could not'", "RAISE WARNING 'creditsd could not'"),
        ('run "creditsd install"', 'run "creditsd install"'),
        ("of creditsd. The", "of creditsd. The"),
        ("COMMENT 'creditsd: each total'", "COMMENT 'creditsd: each total'"),
        ("public.creditsd_credits", "public.creditsd_credits"),
    ],
)
def test_the_name_is_put_in_where_the_schema_is_meant(folder: Path, written: str, read: str) -> None:
    (folder / "one.sql").write_text(written)
    sql_files._text.cache_clear()
    assert sql_files._named.__wrapped__("one", "other") == read
    sql_files._text.cache_clear()


def test_what_is_filled_in_is_never_read_for_the_name(folder: Path) -> None:
    (folder / "two.sql").write_text("SELECT creditsd.amount({column}) WHERE {condition}")
    for name in ("leader_pid", "users_changed", "changes_unread"):
        (folder / f"{name}.sql").write_text("SELECT 1")
    for cached in (sql_files._text, sql_files._named):
        cached.cache_clear()
    values = {"column": sql.Identifier("creditsd.x"), "condition": sql.SQL("kind = 'creditsd' OR creditsd.f(kind)")}
    filled = sql_files.filled("two", "other", **values)
    for cached in (sql_files._text, sql_files._named):
        cached.cache_clear()
    assert filled == "SELECT other.amount(\"creditsd.x\") WHERE kind = 'creditsd' OR creditsd.f(kind)"


def test_no_migration_on_record_is_edited() -> None:
    # Whoever has it applied would never get what was edited into it.
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((sql_files._folder() / "migrations").glob("*.sql"))
    }
    recorded = {name: digest for digest, name in (line.split("  ") for line in RECORD.read_text().splitlines())}
    assert {name: found.get(name) for name in recorded} == recorded
    if os.environ.get("CREDITSD_WRITE_GOLDEN"):
        RECORD.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))
    else:
        assert found == recorded, "a new one is put on record by CREDITSD_WRITE_GOLDEN=1 make test ARGS='-k on_record'"
