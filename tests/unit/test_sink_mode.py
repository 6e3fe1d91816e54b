"""Which `mode` a sink may have."""

from __future__ import annotations

import json

import pytest

from creditsd.config.settings import load
from creditsd.domain.errors import ConfigError


@pytest.mark.parametrize(
    ("mode", "days", "says"),
    [
        ("every", 0, "sink 'cache' is to be told every step, but none is kept: set [history] days"),
        ("each", 7, "mode = 'each': must be 'newest' or 'every'"),
    ],
)
def test_a_mode_that_cannot_be_is_refused_with_the_mend(
    mode: str, days: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = {"name": "cache", "url": "redis://localhost", "mode": mode}
    monkeypatch.setenv("CREDITSD_SINKS", json.dumps([sink]))
    monkeypatch.setenv("CREDITSD_HISTORY__DAYS", str(days))
    with pytest.raises(ConfigError) as refused:
        load(None)
    assert says in str(refused.value)
