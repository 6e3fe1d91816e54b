from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.config import settings as settings_module
from creditsd.config.settings import Settings, Supervision, load, redacted, supervision
from creditsd.config.types import parse_relation
from tests.unit.conftest import refused

pytestmark = pytest.mark.usefixtures("nothing_set")

# Where a value comes from


def test_nothing_set_is_the_contract() -> None:
    settings = load(None)
    assert settings == Settings()
    assert settings.source.relation == ("public", "user_credits")
    assert settings.source.columns.model_dump() == {name: name for name in settings.source.columns.model_dump()}
    assert settings.http.address == ("127.0.0.1", 8321)


def test_the_environment_wins_over_the_file(toml: Any, setenv: Any) -> None:
    config = toml('dsn = "host=file"\npoll_seconds = 2\n[source]\ntable = "a.b"\n[source.columns]\nmembership = "plan"')
    setenv(DSN="host=env", SOURCE__COLUMNS__EXPIRES_AT="until", MAX_BATCH_USERS="7")
    settings = load(config)
    assert (settings.dsn, settings.poll_seconds, settings.max_batch_users) == ("host=env", 2.0, 7)
    assert (settings.source.columns.membership, settings.source.columns.expires_at) == ("plan", "until")


def test_the_file_is_the_argument_else_the_variable_else_the_default(
    toml: Any, setenv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("argument", "variable", "default"):
        (tmp_path / name).write_text(f'role = "{name}"')
    monkeypatch.setattr(settings_module, "DEFAULT_FILE", tmp_path / "default")
    assert load(None).role == "default"
    setenv(CONFIG=str(tmp_path / "variable"))
    assert load(None).role == "variable"
    assert load(tmp_path / "argument").role == "argument"


def test_secrets_come_from_files_beside_the_configuration(toml: Any, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=db password=hidden\n")
    (tmp_path / "signing").write_text("whsec_abc\r\n")
    config = toml('dsn_file = "dsn"\n[[sinks]]\nname = "b"\nurl = "webhook+https://h/x"\nsecret_file = "signing"')
    settings = load(config)
    assert settings.dsn == "host=db password=hidden"
    assert settings.sinks[0].options == {"secret": "whsec_abc"}


def test_secrets_come_from_files_named_in_the_environment(setenv: Any, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("s3cret\n")
    setenv(HTTP__JWT_SECRET_FILE=str(tmp_path / "s"))
    assert load(None).http.jwt_secret == "s3cret"


def test_a_file_of_several_secrets_has_one_a_line(setenv: Any, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a key of the first\r\n\n  a key of the second\n")
    setenv(HTTP__API_KEYS_FILE=str(tmp_path / "keys"))
    assert load(None).http.api_keys == ["a key of the first", "a key of the second"]


def test_servers_are_tables_in_the_file_and_json_elsewhere_and_their_keys_may_be_files(
    toml: Any, setenv: Any, tmp_path: Path
) -> None:
    (tmp_path / "billing.key").write_text("hidden\n")
    text = '[[http.servers]]\nname = "billing"\nkey_file = "billing.key"\nrequests_per_second = 500\n'
    settings = load(toml(text + '[[http.servers]]\nname = "shop"\nkey = "hunter2"'))
    assert [(each.name, each.key, each.requests_per_second) for each in settings.http.servers] == [
        ("billing", "hidden", 500),
        ("shop", "hunter2", None),
    ]
    assert redacted(settings)["http"]["servers"][1] == {"name": "shop", "key": "***"}
    assert "hunter2" not in repr(settings)
    setenv(HTTP__SERVERS=json.dumps([{"name": "shop", "key_file": str(tmp_path / "billing.key")}]))
    assert [each.key for each in load(None).http.servers] == ["hidden"]


@pytest.mark.parametrize(
    ("servers", "says"),
    [
        ("hunter2", "CREDITSD_HTTP__SERVERS.1: must be a valid dictionary"),
        ('[{"name": "a", "kei": "hunter2"}]', "CREDITSD_HTTP__SERVERS.1.kei: Extra inputs are not permitted"),
        ('[{"name": "a", "key": ["hunter2"]}]', "CREDITSD_HTTP__SERVERS.1.key: must be a valid string"),
        ('[{"name": "a", "key": "hunter2", "key_file": "x"}]', "key and key_file are both set"),
        (
            '[{"name": "a", "key_file": "/no/such/file"}]',
            "CREDITSD_HTTP__SERVERS[1].key_file: cannot read /no/such/file",
        ),
        (
            '[{"name": "a", "key": "hunter2"}, {"name": "b", "key": "hunter2"}]',
            "the key of http.servers 'b' is another's",
        ),
        ("[{", "CREDITSD_HTTP__SERVERS: broken JSON"),
    ],
)
def test_a_wrong_server_is_one_clear_line_without_its_key(setenv: Any, servers: str, says: str) -> None:
    setenv(HTTP__SERVERS=servers)
    line = refused()
    assert says in line
    assert "hunter2" not in line


def test_systemd_credentials_stand_between_file_and_environment(
    toml: Any, setenv: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "somebody.elses").write_text("x")
    (tmp_path / "creditsd.dsn").write_text("host=credential\n")
    (tmp_path / "creditsd.http.api_keys").write_text("one,two\n")
    settings = load(toml('dsn = "host=file"'))
    assert (settings.dsn, settings.http.api_keys) == ("host=credential", ["one", "two"])
    setenv(DSN="host=env")
    assert load(None).dsn == "host=env"


@pytest.mark.parametrize(
    "text", ['["active", "trialing"]', "active,trialing", " active , trialing ", "active\ntrialing"]
)
def test_a_list_in_the_environment_is_json_or_commas(setenv: Any, text: str) -> None:
    setenv(SOURCE__ACTIVE_STATUSES=text)
    assert load(None).source.active_statuses == ["active", "trialing"]


def test_variables_that_are_not_ours_to_read_are_left_alone(setenv: Any) -> None:
    setenv(TEST_DSN="x", SERVICE_HOST="10.0.0.1", PORT_8321_TCP_ADDR="10.0.0.1", PORT="tcp://10.0.0.1:8321")
    assert load(None) == Settings()


# Sinks


def test_plain_urls_are_named_after_their_scheme(setenv: Any) -> None:
    setenv(SINKS="redis://a redis+cluster://b  webhook+https://c/d stdout redis://e")
    assert [(sink.name, sink.scheme) for sink in load(None).sinks] == [
        ("redis", "redis"),
        ("redis-2", "redis+cluster"),
        ("webhook", "webhook+https"),
        ("stdout", "stdout"),
        ("redis-3", "redis"),
    ]


def test_a_given_name_is_not_given_again(setenv: Any) -> None:
    setenv(SINKS=json.dumps(["redis://a", {"name": "redis", "url": "redis://b", "prefix": "p:"}]))
    first, second = load(None).sinks
    assert (first.name, second.name, second.options) == ("redis-2", "redis", {"prefix": "p:"})


@pytest.mark.parametrize(
    ("sinks", "says"),
    [
        (
            '[{"name": "a", "url": "redis://x"}, {"name": "a", "url": "redis://y"}]',
            "two sinks are called 'a'",
        ),
        ('[{"name": "a"}]', "CREDITSD_SINKS[1]: url is missing"),
        ('["redis://x", 5]', "CREDITSD_SINKS[2] must be a URL or a table"),
        ('{"name": "a", "url": "redis://x"}', "CREDITSD_SINKS must be a list"),
        ('[{"name": "a b", "url": "redis://x"}]', "CREDITSD_SINKS.1.name = 'a b': must be letters"),
        ("//host", "CREDITSD_SINKS.1.url: must start with the scheme of a sink"),
        ('["redis://x"', "CREDITSD_SINKS: broken JSON"),
        ('[{"url": "redis://x", "secret": "a", "secret_file": "b"}]', "secret and secret_file are both set"),
    ],
)
def test_a_wrong_sink_is_one_clear_line(setenv: Any, sinks: str, says: str) -> None:
    setenv(SINKS=sinks)
    assert says in refused()


# What is wrong


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("WAKEUP", "bell", "CREDITSD_WAKEUP = 'bell': must be 'doorbell' or 'poll'"),
        ("CAN_BUY", "never", "must be 'no_active_subscription', 'no_credits' or 'always'"),
        ("POLL_SECONDS", "fast", "CREDITSD_POLL_SECONDS = 'fast': must be a valid number"),
        ("POLL_SECONDS", "0", "must be greater than 0"),
        ("POLL_SECONDS", "inf", "must be"),
        ("MAX_BATCH_USERS", "", "CREDITSD_MAX_BATCH_USERS = '': must be a valid integer"),
        ("HISTORY__DAYS", "-1", "CREDITSD_HISTORY__DAYS = '-1': must be greater than or equal to 0"),
        ("HTTP__LISTEN", "8321", "must be host:port, or empty for off"),
        ("HTTP__LISTEN", "h:99999", "must be host:port"),
        ("HTTP__JWKS_URL", "ftp://x", "must be an https:// or http:// URL"),
        (
            "HTTP__JWT_USER_CLAIM",
            "a..b",
            "JWT_USER_CLAIM = 'a..b': must be the name of a claim, e.g. sub",
        ),
        (
            "HTTP__CORS_ORIGINS",
            "https://*",
            "CORS_ORIGINS.1 = 'https://*': may have one * inside one label of its host",
        ),
        ("HTTP__JWT_USER_CLAIM", "", "must be the name of a claim"),
        ("HTTP__JWT_USER_CLAIM", "aud", "names no user"),
        ("HTTP__JWT_AUTHORIZED_PARTIES", "a,,b", "JWT_AUTHORIZED_PARTIES.2 = '': String should have at least 1"),
        ("SOURCE__TABLE", "a.b.c", "CREDITSD_SOURCE__TABLE = 'a.b.c': must be table or schema.table"),
        ("SOURCE__TABLE", "a" * 64, "at most 63 bytes"),
        ("SOURCE__COLUMNS__CREDITS", "", "at least 1 character"),
        ("SOURCE__ACTIVE_STATUSES", "", "at least 1 item"),
        ("SOURCE__ACTIVE_STATUSES", "expired", "expired_status 'expired' must not be one of active_statuses"),
        ("SOURCE__ONE_TIME_TYPES", "subscription", "'subscription' must not be in both"),
        ("EVENTS__LOW_CREDITS", "-1", "must be greater than or equal to 0"),
        ("EVENTS__LOW_CREDITS", "nan", "must be a finite number"),
        ("EVENTS__RECOVERED_CREDITS", "-0.5", "must be greater than or equal to 0"),
        ("EVENTS__EXPIRING_SOON_DAYS", "1e9", "must be less than or equal to 3650"),
        ("LOG__LEVEL", "loud", "CREDITSD_LOG__LEVEL = 'loud': must be 'debug', 'info', 'warning' or 'error'"),
        ("DSN_FILE", "/no/such/file", "CREDITSD_DSN_FILE: cannot read /no/such/file: No such file"),
        ("DSN_FILE", "", "CREDITSD_DSN_FILE must be the path of a file"),
    ],
)
def test_a_wrong_value_says_the_key_the_value_and_what_is_allowed(
    setenv: Any, name: str, value: str, says: str
) -> None:
    setenv(**{name: value})
    assert says in refused()


@pytest.mark.parametrize("recovered", ["10", "10.0", "9.99"])
def test_who_has_recovered_has_more_than_who_is_low(setenv: Any, recovered: str) -> None:
    setenv(EVENTS__LOW_CREDITS="10", EVENTS__RECOVERED_CREDITS=recovered)
    assert refused() == f"recovered_credits {recovered} must be above low_credits 10, or 0 for anything above it"


def test_a_wrong_value_in_the_file_says_where(toml: Any) -> None:
    config = toml("[log]\nlevel = 3")
    assert refused(config) == f"{config}: log.level = 3: must be 'debug', 'info', 'warning' or 'error'"


@pytest.mark.parametrize(
    "dsn", ["postgresql://app:hunter2@[db/y", "host=db hunter2", "password=hunter2 hots=db", "hunter2"]
)
def test_a_wrong_dsn_never_shows_its_password(setenv: Any, dsn: str) -> None:
    setenv(DSN=dsn)
    assert "hunter2" not in refused()


def test_a_wrong_secret_is_never_shown(toml: Any) -> None:
    assert "4711" not in refused(toml("[http]\njwt_secret = 4711"))
    assert "4711" not in refused(toml("[http]\napi_keys = [4711]"))


def test_a_key_and_its_file_together_are_refused(setenv: Any) -> None:
    setenv(DSN="host=a", DSN_FILE="/dev/null")
    assert refused() == "CREDITSD_DSN_FILE and CREDITSD_DSN are both set: keep one of them"


def test_broken_toml_says_the_line(toml: Any) -> None:
    config = toml('dsn = "a"\nrole = \n')
    assert refused(config).startswith(f"{config}: broken TOML at line 2, column 8: ")


def test_a_missing_file_is_an_error_only_when_it_was_named(setenv: Any) -> None:
    assert load(None) == Settings()
    assert "cannot read the configuration /no/such.toml" in refused(Path("/no/such.toml"))
    setenv(CONFIG="/no/such.toml")
    assert "cannot read the configuration /no/such.toml" in refused()


# The table's name


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("user_credits", ("public", "user_credits")),
        ("App.User_Credits", ("app", "user_credits")),
        ('"My Schema"."Table"', ("My Schema", "Table")),
        ('app."a.""b"""', ("app", 'a."b"')),
        ("größe.ÄB", ("größe", "Äb")),
    ],
)
def test_a_table_is_called_as_in_sql(text: str, parsed: tuple[str, str]) -> None:
    assert parse_relation(text) == parsed


_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


@given(schema=_names, name=_names)
def test_every_quoted_name_comes_back(schema: str, name: str) -> None:
    quoted = ".".join('"{}"'.format(part.replace('"', '""')) for part in (schema, name))
    assert parse_relation(quoted) == (schema, name)


@given(st.text(alphabet='ab."A1 ', max_size=12))
def test_no_text_is_read_as_a_name_that_would_not_read_back(text: str) -> None:
    try:
        schema, name = parse_relation(text)
    except ValueError:
        return
    quoted = ".".join('"{}"'.format(part.replace('"', '""')) for part in (schema, name))
    assert parse_relation(quoted) == (schema, name)


# What is shown


def test_the_settings_in_force_show_no_secret(setenv: Any) -> None:
    setenv(
        DSN="postgresql://app:hunter2@db/app?sslpassword=hunter2",
        LISTEN_DSN="host=db password='hunter2 \\' hunter2'",
        HTTP__API_KEYS="hunter2,hunter2",
        HTTP__JWT_SECRET="hunter2",
        SINKS=json.dumps(
            [
                "redis://:hunter2@cache:6379/0",
                "nats://hunter2@bus",
                {"url": "webhook+https://h/x?token=hunter2", "secrets": ["hunter2"], "auth_token": "hunter2"},
                {"name": "plain", "url": "redis://h", "prefix": "p:", "nested": {"password": "hunter2"}},
            ]
        ),
    )
    settings = load(None)
    shown = redacted(settings)
    assert "hunter2" not in json.dumps(shown, default=str)
    assert "sinks" not in shown  # which options are secret, each sink knows itself
    assert "hunter2" not in repr(settings)
    assert shown["dsn"] == "postgresql://app:***@db/app?sslpassword=***"
    assert shown["http"]["api_keys"] == ["***", "***"]
    assert shown["log"] == {"level": "info", "format": "auto"}


# What systemd says


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, Supervision("", None)),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1500000"}, Supervision("/run/n", 1.5)),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, Supervision("", 1.5)),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, Supervision("", None)),
        ({"WATCHDOG_USEC": "soon"}, Supervision("", None)),
    ],
)
def test_only_our_own_watchdog_is_fed(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: Supervision
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert supervision() == told


# The name of an installation


@pytest.mark.parametrize("name", ["creditsd", "creditsd_images", "_", "images2", "a" * 45])
def test_an_installation_is_called_by_a_plain_name(setenv: Any, name: str) -> None:
    setenv(SCHEMA=name)
    assert load(None).schema == name
    assert redacted(load(None))["schema"] == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Credits 2", "must be small letters, digits and _"),
        ('x"; DROP SCHEMA public; --', "must be small letters, digits and _"),
        ("x.y", "must be small letters, digits and _"),
        ("2nd", "must be small letters, digits and _"),
        ("Images", "must be small letters, digits and _"),
        ("kredit_für", "must be small letters, digits and _"),
        ("", "must be small letters, digits and _"),
        ("a" * 46, "at most 45"),
        ("order", "no word of SQL"),
        ("user", "no word of SQL"),
        ("values", "no word of SQL"),
        ("pg_credits", "is taken"),
        ("public", "is taken"),
        ("information_schema", "is taken"),
        ("creditsd_bench", "is taken"),
        ("creditsd_lead", "is taken"),
        ("creditsd_doctor", "is taken"),
    ],
)
def test_another_name_is_refused_with_what_is_allowed(setenv: Any, name: str, why: str) -> None:
    setenv(SCHEMA=name)
    line = refused()
    assert line.startswith("CREDITSD_SCHEMA = ")
    assert why in line
    assert "e.g. creditsd_images" in line
