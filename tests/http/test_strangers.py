"""Whatever strangers send: answered as `/openapi.json` describes, in one line, and never as a bug of ours."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from structlog.testing import capture_logs

from creditsd.domain.errors import ConfigError
from creditsd.domain.total import Total
from creditsd.http.server import LONGEST_BODY_BYTES
from tests.http.asking import KEY, ONE, Answer, Shelf, served
from tests.http.made_up import DESCRIBED, Asked, answered, holds, requests

BUGS = {"live.failed"}
UNLIMITED: dict[str, Any] = {f"requests_per_second_per_{who}": 0 for who in ("address", "caller", "server")}
NOT_HERE = ("/v1/operator/", "/page/", "/history", "/livez", "/readyz")  # but by a daemon
SERVED = sorted(
    (method, path)
    for method, path in DESCRIBED.operations
    if path != "/" and not any(part in path for part in NOT_HERE)
)


@contextmanager
def surface() -> Iterator[tuple[asyncio.Runner, int]]:
    """Open a surface for all the requests of a test; the runner runs what asks it."""
    shelf = Shelf("text")
    shelf.put(ONE, 1)
    shelf.totals[ONE] = (1, Total.nothing(ONE)._replace(version=1).json())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = served(shelf, **UNLIMITED)
        _, client = runner.run(opened.__aenter__())
        try:
            yield runner, client.port
        finally:
            runner.run(opened.__aexit__(None, None, None))


def get(path: str, *lines: bytes, body: bytes = b"", method: str = "GET") -> Asked:
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: x", b"Authorization: Bearer " + KEY.encode(), *lines]
    head += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
    return Asked(method, path, b"\r\n".join(head))


def test_whatever_is_asked_of_what_is_described_is_answered_as_described(caplog: pytest.LogCaptureFixture) -> None:
    with surface() as (runner, port):

        @settings(deadline=None)
        @given(requests(SERVED))
        @example(get("/metrics", b"Accept: application/openmetrics-text; version=x"))
        @example(get("/openapi.json", b"Content-Encoding: gzip", body=b"\x1f\x8b no gzip"))
        @example(get("/v1/credits", b"Content-Encoding: deflate", body=b"no zlib", method="POST"))
        def ask(asked: Asked) -> None:
            with capture_logs() as logs:
                holds(asked, runner.run(answered(port, asked)))
            assert not [each for each in logs if each["event"] in BUGS]

        ask()
    assert caplog.records == []


async def answer_to(asked: Asked) -> Answer:
    async with served(Shelf()) as (_, client):
        return await answered(client.port, asked)


async def test_a_line_of_an_error_stays_one_line_whatever_the_path_says() -> None:
    answer = await answer_to(get("/a%0Ab%1B%E2%80%AE"))
    assert (answer.status, answer.error) == (404, r"there is nothing at /a\nb\x1b\u202e")


@pytest.mark.parametrize(
    "body", [b"\x1f\x8b no gzip", gzip.compress(b"{}", mtime=0)[:5] + b"\xff" * 20], ids=["no", "half"]
)
async def test_a_body_that_is_not_as_its_headers_say_is_the_senders_fault(body: bytes) -> None:
    answer = await answer_to(get("/v1/credits", b"Content-Encoding: gzip", body=body, method="POST"))
    assert answer.status == 400
    assert answer.error == "the body cannot be read: it is not as its headers say"


async def test_a_body_that_unpacks_to_more_than_a_body_may_have_is_refused() -> None:
    packed = gzip.compress(b" " * 50_000_000)
    assert len(packed) < LONGEST_BODY_BYTES
    answer = await answer_to(get("/v1/credits", b"Content-Encoding: gzip", body=packed, method="POST"))
    assert answer.status == 413


@pytest.mark.parametrize("version", ["x", "1.0.x", "", "1.0.0.", "9" * 5000, "1;version=x"])
async def test_a_scrape_that_asks_for_a_version_that_is_none_gets_the_figures(version: str) -> None:
    answer = await answer_to(get("/metrics", b"Accept: application/openmetrics-text; version=" + version.encode()))
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "creditsd_" in answer.body


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 70, "no such host", "é" * 60, "256.1.1.1", "/tmp/x"])
async def test_a_host_that_nobody_can_be_called_is_a_setting_that_is_wrong(host: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot listen on .*: set CREDITSD_HTTP__LISTEN to another host:port"):
        async with served(Shelf(), listen=f"{host}:0"):
            pytest.fail("it listens")
