from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.model import Total as Published
from creditsd_client import Credits, Total, UnavailableError
from creditsd_client.events import MAX_EVENT_BYTES, Event, Events
from creditsd_client.total import decode

STREAM = (
    b"\xef\xbb\xbfretry: 1500\n\n"
    b':\n\nid: 1\ndata: {"a":1}\n\n'
    b"data: two\r\ndata:lines\r\n\r\n"
    b'event: close\rdata: {"reason":"shutdown"}\r\r'
    b"event: nothing\n\ndata\n\nretry: soon\nunknown: field\ndata:  \xc3\xa9\n\ndata: cut off"
)
EVENTS = [
    Event("message", '{"a":1}'),
    Event("message", "two\nlines"),
    Event("close", '{"reason":"shutdown"}'),
    Event("message", ""),
    Event("message", " é"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_events_are_read_however_the_bytes_are_cut(cuts: list[int]) -> None:
    events, places = Events(), [0, *sorted(cuts), len(STREAM)]
    found: list[Event] = []
    for start, end in itertools.pairwise(places):
        found += events.read(STREAM[start:end])
    assert found == EVENTS
    assert events.retry_seconds == 1.5


@pytest.mark.parametrize("chunk", [b"x" * 10_000, b"data: " + b"x" * 10_000 + b"\n"])
def test_an_event_that_does_not_end_is_given_up(chunk: bytes) -> None:
    events = Events()

    def read_on() -> None:
        for _ in range(MAX_EVENT_BYTES // 5_000):
            assert list(events.read(chunk)) == []

    with pytest.raises(UnavailableError, match="does not end"):
        read_on()


def published(**changes: Any) -> dict[str, Any]:
    """What the daemon writes about somebody."""
    document: dict[str, Any] = json.loads(Published.nothing("u").json())
    return document | changes


def test_a_total_is_read_exactly() -> None:
    text = json.dumps(published(version=7, expires_at="2026-12-22T00:00:00.5Z", membership="Pro", of_tomorrow=1))
    text = text.replace('"credits": 0', '"credits": 12345678901234567890.000000001')
    total = Total.parse(decode(text))
    assert total.credits == Decimal("12345678901234567890.000000001")
    assert (total.version, total.membership, total.plan_type) == (7, "Pro", "none")
    assert total.expires_at == datetime(2026, 12, 22, 0, 0, 0, 500_000, tzinfo=UTC)
    assert total.message == "You have no credits and no plan."
    assert Total.parse(published(credits=None)).credits.is_nan()


@pytest.mark.parametrize("document", [None, [], {}, published(version="x"), published(updated_at=5), "text"])
def test_what_is_no_total_is_none(document: Any) -> None:
    with pytest.raises(UnavailableError, match="no total of creditsd"):
        Total.parse(document)


def test_a_client_asks_as_a_server_or_as_a_user() -> None:
    with pytest.raises(ValueError, match="either api_key or token"):
        Credits("http://localhost")
    with pytest.raises(ValueError, match="either api_key or token"):
        Credits("http://localhost", api_key="a", token="b")
    with pytest.raises(ValueError, match="say whose"):
        Credits("http://localhost", api_key="a").stream()
    with pytest.raises(ValueError, match="own user"):
        Credits("http://localhost", token="a").stream("u")


def test_importing_the_client_imports_nothing_of_the_daemon() -> None:
    program = "import sys, creditsd_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    imported = done.stdout.split()
    assert "creditsd_client.stream" in imported
    assert not {"creditsd", "psycopg", "pydantic", "structlog", "typer", "redis", "nats"} & set(imported)
