"""Headers that somebody wants sent with every request, and that nobody else gets to see."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from creditsd.config.settings import SinkSettings, load
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Traced, make, shown
from tests.sinks.harness import total
from tests.sinks.webhook_harness import KEY, SECRET, Receiver, always, opened


async def test_every_request_carries_them_beside_our_own(receiver: Receiver) -> None:
    headers = {"X-Api-Key": "hunter2-hunter2", "X-Tenant": 'a, b; c="d"', "User-Agent": "ours/1"}
    async with opened(receiver, headers=headers) as sink:
        await sink.deliver([total("u1"), total("u2")])
    for delivery in receiver.deliveries:
        delivery.verify()
        assert {name: delivery.headers[name] for name in headers} == headers
        assert delivery.headers["Content-Type"] == "application/json"


async def test_what_a_delivery_is_traced_by_is_sent_unless_it_is_set(receiver: Receiver) -> None:
    given: list[tuple[dict[str, Any], str]] = [({}, "ours"), ({"headers": {"Traceparent": "theirs"}}, "theirs")]
    for more, sent in given:
        async with opened(receiver, **more) as sink:
            assert isinstance(sink, Traced)
            sink.trace({"traceparent": "ours"})
            await sink.deliver([total("u1")])
        headers = receiver.deliveries[-1].headers.items()
        assert [value for name, value in headers if name.lower() == "traceparent"] == [sent]


def configuration(folder: Path, text: str, url: str = "webhook+https://example.com/x") -> Path:
    file = folder / "creditsd.toml"
    file.write_text(f'[[sinks]]\nname = "billing"\nurl = "{url}"\nsecret = "{SECRET}"\n{text}')
    return file


@pytest.mark.parametrize(
    "text",
    [
        'headers_file = "all"',
        'headers = {X-Api-Key_file = "one", X-Plain = "open"}',
        '[sinks.headers]\nX-Api-Key_file = "one"\nX-Plain = "open"',
        '[sinks.options.headers]\nX-Api-Key_file = "one"\nX-Plain = "open"',
    ],
)
def test_values_come_from_files_and_are_shown_nowhere(tmp_path: Path, text: str) -> None:
    (tmp_path / "one").write_text("hunter2-hunter2\n")
    (tmp_path / "all").write_text("X-Api-Key: hunter2-hunter2\n\n  X-Plain : open\r\n")
    settings = load(configuration(tmp_path, text)).sinks[0]
    sink: Any = make(settings)
    assert sink._endpoint._options.headers == {"X-Api-Key": "hunter2-hunter2", "X-Plain": "open"}
    assert "hunter2" not in json.dumps(shown(settings))
    assert "hunter2" not in repr(settings)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CREDITSD_")}
    command = [sys.executable, "-m", "creditsd", "config"]
    environment["CREDITSD_CONFIG"] = str(tmp_path / "creditsd.toml")
    printed = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert 'headers = "***"' in printed.stdout
    assert "hunter2" not in printed.stdout + printed.stderr


async def test_an_answer_that_quotes_them_is_told_without_them(receiver: Receiver) -> None:
    headers = {"Authorization": "Bearer hunter2-hunter2", "X-Key": "sesame-open", "X-Both": "sesame"}
    receiver.answer = always(422, "Bearer hunter2-hunter2 hunter2-hunter2 sesame-open sesame")
    with capture_logs() as logs:
        async with opened(receiver, headers=headers, login="") as sink:
            (rejection,) = await sink.deliver([total()])
            receiver.answer = always(503, "not for hunter2-hunter2")
            with pytest.raises(SinkUnavailable) as failure:
                await sink.deliver([total()])
    assert rejection.reason == "answered 422: *** *** *** ***"
    assert str(failure.value).endswith("answered 503: not for ***")
    assert "hunter2" not in str(logs)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Host": "hunter2"}, "headers: Value error, Host is not yours to set: the request has its own"),
        ({"content-type": "hunter2"}, "content-type is not yours to set"),
        ({"Content-Length": "hunter2"}, "Content-Length is not yours to set"),
        ({"Transfer-Encoding": "hunter2"}, "Transfer-Encoding is not yours to set"),
        ({"WebHook-Signature": "hunter2"}, "WebHook-Signature is not yours to set"),
        ({"Proxy-Authorization": "hunter2"}, "Proxy-Authorization is not yours to set"),
        ({"X": "a\r\nX-Evil: hunter2"}, "the value of X must be one line of ASCII, and not empty"),
        ({"X": "a\nhunter2"}, "the value of X must be one line"),
        ({"X": "hunter2\0"}, "the value of X must be one line"),
        ({"X": "hunter2é"}, "the value of X must be one line"),
        ({"X": " hunter2"}, "the value of X must be one line"),
        ({"X": ""}, "the value of X must be one line"),
        ({"X hunter2": "x"}, "number 1 has a name that no header has"),
        ({"X: hunter2\r\nY": "x"}, "number 1 has a name that no header has"),
        ({"": "hunter2"}, "number 1 has a name that no header has"),
        ({"X": "a", "x": "hunter2"}, "x is given twice"),
        ({"X": 5}, "headers.X: Input should be a valid string"),
        (["hunter2"], "headers: Input should be a valid dictionary"),
        ("X: a\nhunter2", "headers: Value error, line 2 is not Name: value"),
        ("X: a\nX: hunter2", "line 2 gives a header that was given before"),
        ({"authorization": "hunter2"}, "the url has a login and headers an Authorization: keep one of them"),
    ],
)
def test_a_header_that_cannot_be_sent_is_one_line_without_its_value(headers: Any, says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="b", url="webhook+https://u:p@h/x", options={"secret": SECRET, "headers": headers}))
    assert says in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert KEY not in str(failure.value)


async def test_a_proxy_is_not_told_them_on_the_way_to_https() -> None:
    heads: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    async with server:
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        options = {"secret": SECRET, "proxy": proxy, "headers": {"X-Api-Key": "hunter2-hunter2"}}
        sink = make(SinkSettings(name="b", url="webhook+https://example.com/x", options=options))
        await sink.open()
        with pytest.raises(SinkUnavailable):
            await sink.deliver([total()])
        await sink.close()
    assert heads
    assert all(head.startswith(b"CONNECT ") and b"hunter2" not in head for head in heads)
