"""Whatever stands in the file or the environment: settings, or one clear line that says where and quotes no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st

from creditsd.cli.ending import complaint
from creditsd.config import settings as settings_module
from creditsd.config.settings import Settings, SinkSettings, load, redacted
from creditsd.domain.errors import ConfigError
from creditsd.sinks import make, shown
from tests.sinks.webhook_harness import SECRET

HIDDEN = "hunter2-and-more"
KEYS = sorted(settings_module._known().keys)
SECRET_KEYS = [key for key in KEYS if key[-1] in ("dsn", "jwt_secret", "api_keys", "operator_keys", "token", "nkey")]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    [
        "",
        "1",
        "nan",
        "inf",
        "1e400",
        "9" * 5000,
        "[",
        "{",
        "[[[[",
        '["\\ud800"]',
        '{"a": NaN}',
        "a..b:80",
        "http://[",
        "\0",
    ]
)
SCALARS = st.one_of(
    TEXTS, st.booleans(), st.integers(), st.floats(), st.datetimes(), st.dates(), st.times(), st.just(10**400)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(autouse=True)
def _nothing_set() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("CREDITSD_") or name == "CREDENTIALS_DIRECTORY":
                patch.delenv(name)
        patch.setattr(settings_module, "DEFAULT_FILE", Path("/nonexistent"))
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "creditsd.toml"


def loaded(config: Path | None = None) -> Settings | str:
    """Load the settings; where they are refused return the line that says why, as a command writes it."""
    try:
        found = load(config)
    except ConfigError as error:
        line = complaint(str(error))
        assert line.isprintable()
        return line
    repr(found), redacted(found)
    return found


def refused(config: Path | None = None) -> str:
    line = loaded(config)
    assert isinstance(line, str)
    return line


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_values_of_whatever_type(file: Path, values: dict[tuple[str, ...], Any]) -> None:
    document: dict[str, Any] = {}
    for key, value in values.items():
        table = document
        for section in key[:-1]:
            table = table.setdefault(section, {})
        table[key[-1]] = value
    file.write_bytes(tomli_w.dumps(document).encode(errors="replace"))
    loaded(file)


@given(st.binary(max_size=60) | st.text("[]{}\"'=.,#\n\r\t\0\\ aé1_-", max_size=60).map(str.encode))
def test_a_file_of_whatever_bytes(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    loaded(file)


@given(
    st.sampled_from(KEYS),
    st.sampled_from(["", "_FILE", "__X", "__FILE"]),
    TEXTS | st.binary(max_size=9).map(os.fsdecode),
)
def test_variables_of_whatever_text(key: tuple[str, ...], end: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"CREDITSD_{'__'.join(key).upper()}{end}", text.replace("\0", ""))
        loaded()


@given(st.sampled_from(SECRET_KEYS), st.sampled_from(["%s", "[%s", '{"a": "%s"}', '["a", {"%s": 1}]', "x=%s ="]))
def test_no_value_of_a_secret_is_quoted(key: tuple[str, ...], written: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"CREDITSD_{'__'.join(key).upper()}", written.replace("%s", HIDDEN))
        assert HIDDEN not in str(loaded())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("poll_seconds = " + "9" * 5000, "a number has more digits than can be read"),
        ("poll_seconds = 0x" + "f" * 5000, "poll_seconds = what stands there: must be"),
        ("max_batch_users = [0x" + "f" * 5000 + "]", "max_batch_users = what stands there: must be"),
        ("sinks = " + "[" * 5000 + "]" * 5000, "lists or tables are nested too deeply"),
        ("a." * 5000 + "a = 1", "lists or tables are nested too deeply"),
        ("dsn = 'a\0b'", "broken TOML at line 1, column 9"),
        ('"a\\nb" = 1', r"unknown setting a\nb"),
        ("[http]\napi_keys = 1979-05-27", "api_keys: must be a valid list"),
        ("can_buy = {}", "can_buy = {}: must be"),
    ],
    ids=lambda value: value[:30],
)
def test_what_no_setting_can_be_is_told_in_one_line(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    assert says in refused(file)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" + "9" * 5000 + "]"])
@pytest.mark.parametrize("name", ["CREDITSD_SINKS", "CREDITSD_HTTP__API_KEYS"])
def test_json_that_cannot_be_read_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    assert f"{name}: " in refused()
    assert len(refused()) < 300


def test_a_file_as_editors_on_windows_write_it_is_read(file: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfhidden\r\n")
    text = f"poll_seconds = 2\n[http]\njwt_secret_file = {json.dumps(str(tmp_path / 'secret'))}\n"
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = loaded(file)
    assert isinstance(found, Settings)
    assert (found.poll_seconds, found.http.jwt_secret) == (2.0, "hidden")


@pytest.mark.parametrize("url", ["http://[", "https://", "http://h:99999", "http://h:x", "https://?", "http://a b"])
@pytest.mark.parametrize("name", ["CREDITSD_HTTP__JWKS_URL", "CREDITSD_TRACING__OTLP_URL"])
def test_a_url_that_names_no_server_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, url: str) -> None:
    monkeypatch.setenv(name, url)
    assert refused().endswith("must be an https:// or http:// URL, or empty")


SINKS = ["stdout:", "redis://h", "redis+cluster://h", "redis+sentinel://h/m", "webhook+https://h/x", "nats://h"]
SINKS += ["kafka://h", "supabase+https://h", "supabase://u:p@h/db"]
URLS = st.builds(str.__add__, st.sampled_from(SINKS), TEXTS) | st.sampled_from(["redis://[", "nats://h:x", "kafka://,"])


@settings(deadline=None)
@given(URLS, st.dictionaries(st.sampled_from(["ca", "concurrency", "client_certificate", "headers", "x"]), VALUES))
@example("webhook+https://h/x", {"concurrency": 10**400})
@example("webhook+https://h/x", {"client_certificate": "x" * 10_000})
@example("kafka://h", {"client_certificate": "x" * 10_000})
def test_a_sink_of_whatever_url_and_options(url: str, options: dict[str, Any]) -> None:
    wanted = {"secret": SECRET} if url.startswith("webhook") else {}
    sink = SinkSettings(name="b", url=url, options={**wanted, **options})
    repr(shown(sink))
    line = "sink b"
    try:
        make(sink)
    except ConfigError as error:
        line = str(error)
    assert line.startswith("sink b")
    assert len(complaint(line)) < 600
