"""Whatever a receiver answers, a delivery ends as arrived, refused or unavailable, and its reason is one line."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime

from hypothesis import example, given, settings
from hypothesis import strategies as st

from creditsd.brokers.http import retry_after_seconds
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import SinkUnavailable
from creditsd.sinks import Rejection, SinkBusy, make
from tests.sinks.harness import total
from tests.sinks.webhook_harness import KEY, PASSWORD, SECRET

LONGEST = 300
NOW = datetime(2026, 11, 28, tzinfo=UTC)

STATUSES = st.sampled_from(
    [100, 101, 103, 199, 200, 204, 299, 301, 304, 400, 408, 409, 410, 418, 429, 500, 503, 529, 599, 999]
)
PAUSES = st.sampled_from(
    [
        "-1",
        "9" * 5000,
        "1e9",
        "0",
        "1.5",
        "\xb2",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Fri, 31 Feb 9999 99:99:99 GMT",
        "soon",
    ]
) | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
HEADERS = st.lists(
    st.one_of(
        PAUSES.map(lambda pause: b"Retry-After: " + pause.encode("latin-1", "replace")),
        st.sampled_from(
            [b"Content-Encoding: gzip", b"Content-Encoding: br", b"Transfer-Encoding: chunked", b"Location: /x"]
        ),
        st.sampled_from(
            [b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 3", b"X" * 9000]
        ),
        st.sampled_from(
            [b"Set-Cookie: a=\xff", b"Content-Type: \xff", b": x", b"no colon", b"Connection: upgrade", b"X: a\0b"]
        ),
        st.binary(max_size=40),
    ),
    max_size=3,
)
BODIES = st.binary(max_size=200) | st.sampled_from(
    [
        gzip.compress(b" " * 10_000_000), f"{SECRET} {KEY} {PASSWORD}".encode(), b"\x1b[31m\n\n\xe2\x80\xae" * 100,
        b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n", b"FFFFFFFFFFFFFFFFFF\r\n", b"x" * 100_000,
    ]
)  # fmt: skip
ANSWERS = st.builds(
    lambda status, headers, body: b"HTTP/1.1 %d \xff\r\n%b\r\n\r\n%b" % (status, b"\r\n".join(headers), body),
    STATUSES,
    HEADERS,
    BODIES,
) | st.binary(max_size=100)


@contextlib.contextmanager
def receiver() -> Iterator[tuple[asyncio.Runner, list[bytes], int]]:
    """Listen, and answer each request with the bytes that stand in the list; then close."""
    answers = [b""]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"}}")
            writer.write(answers[0])
            await writer.drain()
        writer.close()

    with asyncio.Runner() as runner:
        server = runner.run(asyncio.start_server(answer, "127.0.0.1", 0))
        try:
            yield runner, answers, server.sockets[0].getsockname()[1]
        finally:
            server.close()
            runner.run(server.wait_closed())


async def delivered(port: int) -> list[Rejection] | SinkUnavailable:
    url = f"webhook+http://user:{PASSWORD}@127.0.0.1:{port}/hook"
    sink = make(SinkSettings(name="billing", url=url, options={"secret": SECRET, "allow_cidrs": ["127.0.0.1"]}))
    await sink.open()
    try:
        return [*await sink.deliver([total()])]
    except SinkUnavailable as error:
        return error
    finally:
        await sink.close()


def test_whatever_is_answered_the_delivery_has_an_end_and_one_line_for_a_reason() -> None:
    with receiver() as (runner, answers, port):

        @settings(deadline=None)
        @given(ANSWERS)
        @example(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b" " * 10_000_000))
        def ask(answer: bytes) -> None:
            answers[0] = answer
            found = runner.run(delivered(port))
            if isinstance(found, SinkUnavailable):
                reason, pause = str(found), found.retry_after_seconds if isinstance(found, SinkBusy) else None
            else:
                reason = " ".join(each.reason for each in found)
                pause = next((each.retry_after_seconds for each in found), None)
            assert len(reason) < LONGEST
            assert reason.isprintable()
            assert not any(secret in reason for secret in (SECRET, KEY, PASSWORD))
            assert pause is None or 0 <= pause <= 86_400

        ask()


@given(PAUSES | st.text(max_size=40))
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
def test_whatever_retry_after_says_the_pause_is_none_or_a_day_at_most(header: str) -> None:
    pause = retry_after_seconds(header, NOW)
    assert pause is None or 0 <= pause <= 86_400
