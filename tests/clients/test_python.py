from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditsd.domain.total import Total as Published
from creditsd_client import BlockingCredits, ClosedError, Credits, Total, UnavailableError
from creditsd_client.events import MAX_EVENT_BYTES, Event, Events
from creditsd_client.total import data_of

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


def test_a_total_is_read_exactly_and_kept_as_it_was_sent() -> None:
    text = json.dumps(published(version=7, expires_at="2026-12-22T00:00:00.5Z", membership="Pro", of_tomorrow=1))
    text = text.replace('"credits": 0', '"credits": 12345678901234567890.000000001')
    total = Total.parse(text)
    assert total.credits == Decimal("12345678901234567890.000000001")
    assert (total.version, total.membership, total.plan_type) == (7, "Pro", "none")
    assert total.expires_at == datetime(2026, 12, 22, 0, 0, 0, 500_000, tzinfo=UTC)
    assert total.message == "You have no credits and no plan."
    assert total.json == text
    assert Total.parse(json.dumps(published(credits=None))).credits.is_nan()
    assert (total.level, total.low_credits) == (None, None)
    low = Total.parse(Published.nothing("u", Decimal("10.50")).json().decode())
    assert (low.level, low.low_credits) == ("depleted", Decimal("10.5"))
    recovered = Total.parse(json.dumps(published(level=None, low_credits=10)))
    assert (recovered.level, recovered.low_credits) == (None, Decimal(10))


@pytest.mark.parametrize("document", [None, [], {}, published(version="x"), published(updated_at=5), "text"])
def test_what_is_no_total_is_none(document: Any) -> None:
    with pytest.raises(UnavailableError, match="no total of creditsd"):
        Total.parse(json.dumps(document))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


OTHERS = st.dictionaries(st.text().filter(lambda key: key != "data"), JSON)


@given(OTHERS, JSON, st.booleans(), st.sampled_from([None, 1]))
def test_data_is_cut_out_as_it_stands(others: dict[str, Any], data: Any, ascii_only: bool, indent: int | None) -> None:
    def written(document: Any, inner: int | None) -> str:
        return json.dumps(document, ensure_ascii=ascii_only, indent=inner)

    text = written(data, None)
    answer = written({**others, "data": "HERE IT STANDS"}, indent).replace('"HERE IT STANDS"', text)
    try:
        body = answer.encode()
    except UnicodeEncodeError:
        return  # half a character is no JSON that a server sends
    assert data_of(body) == text
    assert data_of(written(others, indent).encode(errors="replace")) == "null"


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b'{"data": 1', b"[" * 100_000, b"\xef\xbb\xbf{}"])
def test_an_answer_that_is_no_json_says_so(body: bytes) -> None:
    with pytest.raises(UnavailableError, match="no JSON"):
        data_of(body)


@pytest.mark.parametrize("body", [b"[]", b"5", b"{}", b'{"data": null}'])
def test_an_answer_without_data_has_none(body: bytes) -> None:
    assert data_of(body) == "null"


@pytest.mark.parametrize("kind", [Credits, BlockingCredits])
@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost", "localhost:8321", "credits.example.com/v1", "//localhost", "ftp://localhost", "http://"),
        *("http://localhost:port", "http://localhost?key=x", "http://localhost#x", "http:///x"),
        "http://ann:s3cr3t@localhost",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(url: str, kind: type[Credits | BlockingCredits]) -> None:
    with pytest.raises(ValueError, match="is no address of creditsd: say http:// or https://") as refused:
        kind(url, api_key="a")
    assert "\n" not in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_a_client_asks_as_a_server_or_as_a_user() -> None:
    with pytest.raises(ValueError, match="either api_key or token"):
        Credits("http://localhost")
    with pytest.raises(ValueError, match="either api_key or token"):
        Credits("http://localhost", api_key="a", token="b")
    with pytest.raises(ValueError, match="say whose"):
        Credits("http://localhost", api_key="a").stream()
    with pytest.raises(ValueError, match="own user"):
        Credits("http://localhost", token="a").stream("u")


async def test_a_closed_client_stays_closed() -> None:
    client = Credits("http://localhost:9", api_key="a")
    stream = client.stream("u")
    await client.close()
    with pytest.raises(ClosedError, match="make a new one"):
        await client.read("u")
    with pytest.raises(ClosedError):
        await client.read_many(["u"])
    with pytest.raises(ClosedError):
        client.stream("u")
    assert [total async for total in stream] == []
    await client.close()


async def test_a_session_that_its_owner_closed_is_named() -> None:
    async with aiohttp.ClientSession() as session:
        client = Credits("http://localhost:9", api_key="a", session=session)
    with pytest.raises(ClosedError, match="session that this client was given"):
        await client.read("u")


def test_a_closed_blocking_client_stays_closed() -> None:
    used = BlockingCredits("http://127.0.0.1:9", api_key="a")
    with pytest.raises(UnavailableError, match="does not answer"):
        used.read("u")
    stream = used.stream("u")
    for client in (used, BlockingCredits("http://127.0.0.1:9", api_key="a")):
        client.close()
        client.close()
        with pytest.raises(ClosedError, match="make a new one"):
            client.read("u")
        with pytest.raises(ClosedError):
            client.stream("u")
    assert list(stream) == []
    stream.close()


def test_a_blocking_client_that_nobody_closes_lets_the_process_end() -> None:
    program = """
from creditsd_client import BlockingCredits, UnavailableError
client = BlockingCredits("http://127.0.0.1:9", api_key="a")
try:
    client.read("u")
except UnavailableError:
    print("asked")
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("asked\n", "")


def test_a_blocking_client_used_before_a_fork_says_so_in_the_child() -> None:
    program = """
import os, sys
from creditsd_client import BlockingCredits, ClosedError, UnavailableError
used, unused = BlockingCredits("http://127.0.0.1:9", api_key="a"), BlockingCredits("http://127.0.0.1:9", api_key="a")
try:
    used.read("u")
except UnavailableError:
    pass
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for client in (used, unused):
    try:
        client.read("u")
    except (ClosedError, UnavailableError) as error:
        print(type(error).__name__)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert done.stdout == "ClosedError\nUnavailableError\n"


def test_importing_the_client_imports_nothing_of_the_daemon() -> None:
    program = "import sys, creditsd_client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    imported = done.stdout.split()
    assert "creditsd_client.stream" in imported
    assert not {"creditsd", "psycopg", "pydantic", "structlog", "typer", "redis", "nats"} & set(imported)
