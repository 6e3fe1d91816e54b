from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.config.redact import redact, redact_dsn

# Recognisable in any output: no other text here contains two of these in a row.
_core = "ßßß"
_passwords = st.builds(lambda before, after: before + _core + after, st.text(max_size=8), st.text(max_size=8))
_visible = _passwords.filter(lambda text: not any(char.isspace() for char in text))


@given(_passwords)
def test_a_url_never_shows_its_password(password: str) -> None:
    escaped = quote(password, safe="")
    shown = redact_dsn(f"postgresql://app:{escaped}@db:5432/app?sslmode=require")
    assert shown == "postgresql://app:***@db:5432/app?sslmode=require"


@given(_passwords)
def test_a_url_that_forgot_to_escape_shows_none_of_it(password: str) -> None:
    assert _core not in redact_dsn(f"postgresql://app:{password}@db/app")


@given(_visible)
def test_a_password_inside_a_sentence_is_masked(password: str) -> None:
    shown = redact_dsn(f"could not reach redis://app:{password}@cache/0 at all")
    assert _core not in shown
    assert shown.endswith(" at all")


@given(_passwords)
def test_a_keyword_string_never_shows_its_password(password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    shown = redact_dsn(f"host=db password = '{escaped}' dbname=app")
    assert _core not in shown
    assert shown.startswith("host=db password")


@given(_visible)
def test_an_unquoted_keyword_never_shows_its_password(password: str) -> None:
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    assert _core not in redact_dsn(f"host=db password={escaped} dbname=app")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("host=db user=app", "host=db user=app"),
        ("postgresql://app@db/app", "postgresql://app@db/app"),
        (
            "postgresql:///app?host=/tmp&password=x&sslmode=off",
            "postgresql:///app?host=/tmp&password=***&sslmode=off",
        ),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("nats://token@bus", "nats://***@bus"),
        ("mail somebody@example.com", "mail somebody@example.com"),
        ("PASSWORD=x host=db", "PASSWORD=*** host=db"),
        ("the url is not redis://[user:password@]host[:port]", "the url is not redis://[user:password@]host[:port]"),
        ("write supabase://user:password@host:5432/postgres", "write supabase://user:password@host:5432/postgres"),
        ("https://:hunter2@example.com/x", "https://***@example.com/x"),
        ("at https://example.com/@user/hook today", "at https://*** today"),
    ],
)
def test_only_secrets_are_masked(text: str, shown: str) -> None:
    assert redact_dsn(text) == shown


def test_a_secret_is_known_by_its_name_at_any_depth() -> None:
    assert redact("sink", {"a": [{"api_token": 5}], "secrets": ["x", "y"], "ttl_seconds": 5, "secret": ""}) == {
        "a": [{"api_token": "***"}],
        "secrets": ["***", "***"],
        "ttl_seconds": 5,
        "secret": "",
    }
