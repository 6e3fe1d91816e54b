from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from creditsd.domain.errors import CreditsdError
from creditsd.postgres import sql_files


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
    monkeypatch.setattr(sql_files, "_text", cache(sql_files._text.__wrapped__))
    for name in ("asked", "leader_pid", "users_changed"):
        (folder / f"{name}.sql").write_text("SELECT 1")
    (folder / "migrations" / "0001_first.sql").write_text("SELECT 2")
    assert sql_files.keep_all() == 4
    (folder / "asked.sql").unlink()
    (folder / "migrations" / "0001_first.sql").write_text("SELECT 3")
    assert sql_files.filled("asked") == "SELECT 1"
    assert sql_files.filled("migrations/0001_first") == "SELECT 2"
