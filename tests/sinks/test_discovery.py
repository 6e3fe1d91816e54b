from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import creditsd.sinks
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError
from creditsd.sinks import make, schemes, shown
from tests.sinks import harness


def test_every_file_is_a_scheme_and_has_a_harness() -> None:
    assert {"kafka", "nats", "redis", "stdout", "supabase", "webhook"} <= set(schemes())
    assert {name.split("_")[0] for name in harness.find()} == set(schemes())


@pytest.mark.parametrize(
    ("url", "module"),
    [
        ("stdout", "creditsd.sinks.stdout"),
        ("stdout:", "creditsd.sinks.stdout"),
        ("redis://h", "creditsd.sinks.redis"),
        ("rediss://h", "creditsd.sinks.redis"),
        ("redis+cluster://h", "creditsd.sinks.redis"),
        ("rediss+sentinel://h/mymaster", "creditsd.sinks.redis"),
        ("nats://h", "creditsd.sinks.nats"),
        ("nats+tls://h", "creditsd.sinks.nats"),
        ("supabase://h/postgres", "creditsd.sinks.supabase"),
        ("supabase+https://h", "creditsd.sinks.supabase"),
        ("webhook+https://h/x", "creditsd.sinks.webhook"),
        ("webhook+http://h/x", "creditsd.sinks.webhook"),
    ],
)
def test_the_scheme_finds_the_file(url: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        needed = {"webhook+": {"secret": "a" * 32}, "supabase+": {"key": "k"}}
        options = next((options for begin, options in needed.items() if url.startswith(begin)), {})
        found = type(make(SinkSettings(name="s", url=url, options=options))).__module__
        assert found == module or found.startswith(f"{module}.")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redsi://:hunter2@h", "unknown scheme 'redsi': did you mean redis?"),
        ("webhooks+https://h", "must begin with webhook+https://"),
        ("https://:hunter2@h", "did you mean webhook+https://?"),
        ("http://h/hook", "did you mean webhook+http://?"),
        ("zzz://:hunter2@h", "known: kafka, nats, redis, stdout, supabase, webhook"),
        ("stdout://somewhere", "write the url as stdout:"),
    ],
)
def test_an_unknown_scheme_names_the_nearest_right_one(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="s", url=url))
    assert says in str(failure.value)
    assert "hunter2" not in str(failure.value)


def test_a_missing_client_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "creditsd.sinks.redis", raising=False)
    monkeypatch.delattr(creditsd.sinks, "redis", raising=False)
    for module in [name for name in sys.modules if name == "redis" or name.startswith("redis.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"sink s needs redis: pip install 'creditsd\[redis\]'"):
        make(SinkSettings(name="s", url="redis://h"))


SECRETS = {"pasword": "hunter2", "nested": {"a": ["hunter2"]}, "bearer": ["hunter2", "hunter2"]}


@pytest.mark.parametrize(
    ("url", "options", "public", "problem"),
    [
        ("redis://:hunter2@h:6379/0", {"prefix": "p:"}, {"url": "redis://***@h:6379/0", "prefix": "p:"}, None),
        ("redis://h", {"sentinel_password": "hunter2"}, {"sentinel_password": "***"}, None),
        ("redis://h?pasword=hunter2", SECRETS, {"url": "redis://h?pasword=***", "nested": "***"}, "unknown option"),
        (
            "webhook+https://h/x?auth=hunter2",
            {"secrets": ["hunter2"], "proxy": "hunter2", "timeout_seconds": 2, **SECRETS},
            {"secrets": ["***"], "proxy": "***", "timeout_seconds": 2, "bearer": ["***", "***"], "pasword": "***"},
            "unknown option 'pasword'",
        ),
        ("nats://hunter2@h", {"creds": "hunter2", "subject": "s"}, {"url": "nats://***@h", "subject": "s"}, None),
        ("redsi://:hunter2@h", {"prefix": "hunter2"}, {"prefix": "***"}, "did you mean redis?"),
        ("https://u:hunter2@h", {"headers": {"Authorization": "hunter2"}}, {"headers": "***"}, "webhook+https://"),
    ],
)
def test_what_a_sink_does_not_know_is_shown_as_a_secret(
    url: str, options: dict[str, Any], public: dict[str, Any], problem: str | None
) -> None:
    told, said = shown(SinkSettings(name="s", url=url, options=options))
    assert "hunter2" not in json.dumps(told)
    assert told | public == told
    assert told.keys() == {"name", "url", "mode", *options}
    assert (problem or "") in (said or "")
    assert (said is None) is (problem is None)
