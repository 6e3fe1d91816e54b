"""What is misspelt names what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import refused

pytestmark = pytest.mark.usefixtures("nothing_set")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("DNS", "DSN"),
        ("DNS_FILE", "DSN_FILE"),
        ("SOURCE__COLUMS__USER_ID", "SOURCE__COLUMNS__USER_ID"),
        ("SOURCE__COLUMNS__MEMBERSHIPS", "SOURCE__COLUMNS__MEMBERSHIP"),
        ("SOURCE_TABLE", "SOURCE__TABLE"),
        ("TABLE", "SOURCE__TABLE"),
        ("HTTP__API_KEY", "HTTP__API_KEYS"),
        ("SOURCE__CAN_BUY", "CAN_BUY"),
        ("ACTIVE_STATUSES", "SOURCE__ACTIVE_STATUSES"),
        ("LOG_LEVEL", "LOG__LEVEL"),
        ("SINK", "SINKS"),
        ("LISTEN", "HTTP__LISTEN"),
    ],
)
def test_a_misspelt_variable_names_the_right_one(setenv: Any, written: str, meant: str) -> None:
    setenv(**{written: "hunter2"})
    assert refused() == f"unknown setting CREDITSD_{written}: did you mean CREDITSD_{meant}?"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('dns = "x"', "unknown setting dns: did you mean dsn?"),
        ('[sourc]\ntable = "x"', "unknown setting sourc.table: did you mean source.table?"),
        (
            '[source]\ncan_buy = "always"',
            "source.can_buy: did you mean can_buy? (it belongs above the first [section])",
        ),
        ('active_statuses = ["a"]', "unknown setting active_statuses: did you mean source.active_statuses?"),
        ('[source.columns]\nmembershp = "x"', "did you mean source.columns.membership?"),
        ('source = "x"', "unknown setting source"),
        ("[http]\nzzz = 1", "unknown setting http.zzz: there are http.api_keys, http.cors_origins"),
    ],
)
def test_a_misspelt_key_in_the_file_names_the_right_one(toml: Any, text: str, says: str) -> None:
    config = toml(text)
    line = refused(config)
    assert line.startswith(f"{config}: ")
    assert says in line


def test_a_misspelt_credential_names_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "creditsd.dns").write_text("x")
    assert refused() == "unknown setting credential creditsd.dns: did you mean creditsd.dsn?"
