from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme
from nats.js.api import DiscardPolicy, KeyValueConfig, StreamConfig

from creditsd.brokers.nats import encode_user
from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
from creditsd.sinks.nats import NatsSink
from tests.sinks.harness import VERSION, total
from tests.sinks.nats_harness import NatsServer

Start = Callable[..., NatsServer]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as ends:

        def started(configuration: str = "", **options: Any) -> NatsServer:
            server = NatsServer(configuration, **options)
            ends.callback(server.stop)
            server.start()
            return server

        yield started


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Sink]:
    sink = make(SinkSettings(name="events", url=url, options=options))
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def test_the_stream_is_made_to_hold_the_newest_total_of_each_user(start: Start) -> None:
    server = start()
    async with opened(server.url) as sink:
        for step in range(3):
            await sink.deliver([total("u1", VERSION + step), total("u2", VERSION + step)])
        assert await sink.held("u1") == VERSION + 2
    async with server.jetstream() as jetstream:
        info = await jetstream.stream_info("CREDITS")
    assert info.config.subjects == ["credits.*"]
    assert info.config.max_msgs_per_subject == 1
    assert info.state.messages == 2


async def test_an_older_version_is_never_stored_not_even_after_the_window_for_duplicates(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.add_stream(StreamConfig(name="CREDITS", subjects=["credits.*"], duplicate_window=0.1))
    async with opened(server.url) as sink:
        await sink.deliver([total(version=VERSION + 1)])
        await sink.deliver([total(version=VERSION)])
        await sink.deliver([total(version=VERSION + 1)])
    async with server.jetstream() as jetstream:
        assert (await jetstream.stream_info("CREDITS")).state.messages == 1


async def test_a_message_id_names_user_and_version(start: Start) -> None:
    server = start()
    async with opened(server.url) as sink:
        await sink.deliver([total("a.b")])
    async with server.jetstream() as jetstream:
        message = await jetstream.get_last_msg("CREDITS", "credits.a=2Eb")
    assert message.headers is not None
    assert message.headers["Nats-Msg-Id"] == f"a=2Eb:{VERSION}"


async def test_two_daemons_at_once_leave_the_higher_version(start: Start) -> None:
    server = start()
    async with opened(server.url) as one, opened(server.url) as other:
        versions = [VERSION + (step * 37) % 100 for step in range(100)]
        refused = await asyncio.gather(
            *((one if step % 2 else other).deliver([total(version=version)]) for step, version in enumerate(versions))
        )
        for rejection in (each for batch in refused for each in batch):
            assert "at the same moment" in rejection.reason
            assert list(await one.deliver([rejection.total])) == []  # as the publisher does, later
        assert await one.held("u1") == VERSION + 99


@pytest.mark.parametrize(
    ("user_id", "token"),
    [
        ("3f0c7a2e-77aa-4c35-8f8e-2a6a1c1d0a11", "3f0c7a2e-77aa-4c35-8f8e-2a6a1c1d0a11"),
        ("a.b", "a=2Eb"),
        ("a=2Eb", "a=3D2Eb"),
        ("*", "=2A"),
        (">", "=3E"),
        ("a b\r\n", "a=20b=0D=0A"),
        ("Zoë", "Zo=C3=AB"),
        ("", "="),
    ],
)
def test_a_user_id_is_one_token_and_no_two_are_the_same(user_id: str, token: str) -> None:
    assert encode_user(user_id) == token


async def test_what_is_too_large_is_refused_and_others_pass(start: Start) -> None:
    server = start("max_payload: 4096")
    async with opened(server.url) as sink:
        large, long = total("u1", membership="x" * 5000), total("u" * 3000, VERSION + 1)
        refused = await sink.deliver([large, long, total("u2", VERSION + 2)])
        assert [(each.total, "max_payload" in each.reason) for each in refused] == [(large, True), (long, False)]
        assert await sink.held("u2") == VERSION + 2
        assert await sink.held("u" * 3000) is None


async def test_what_is_too_large_for_the_stream_is_refused_and_others_pass(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.add_stream(StreamConfig(name="CREDITS", subjects=["credits.*"], max_msg_size=2000))
    async with opened(server.url) as sink:
        (refused,) = await sink.deliver([total("u1", membership="x" * 3000), total("u2")])
        assert "max_msg_size" in refused.reason
        assert await sink.held("u2") == VERSION


async def test_a_bucket_holds_the_newest_total_under_the_users_key(start: Start) -> None:
    server = start()
    async with opened(server.url, bucket="credits") as sink:
        await sink.deliver([total("a.b", VERSION + 1)])
        await sink.deliver([total("a.b", VERSION)])
        assert await sink.held("a.b") == VERSION + 1
        async with server.jetstream() as jetstream:
            bucket = await jetstream.key_value("credits")
            assert (await bucket.get("a=2Eb")).value == total("a.b", VERSION + 1).json()
            await bucket.delete("a=2Eb")
        assert await sink.held("a.b") is None
        await sink.deliver([total("a.b", VERSION + 1)])
        assert await sink.held("a.b") == VERSION + 1


@pytest.mark.parametrize("options", [{}, {"bucket": "credits"}, {"max_msgs_per_subject": 9}])
async def test_a_user_can_be_forgotten_and_nobody_else_is(start: Start, options: dict[str, Any]) -> None:
    async with opened(start().url, **options) as sink:
        assert isinstance(sink, NatsSink)
        await sink.deliver([total("a.b"), total("u2")])
        await sink.deliver([total("a.b", VERSION + 1)])
        assert await sink.forget("a.b") == (2 if "max_msgs_per_subject" in options else 1)
        assert await sink.forget("a.b") == 0
        assert await sink.forget("u" * 3000) == 0
        assert list(await sink.held_many(["a.b", "u2", "u" * 3000])) == [None, VERSION, None]


async def test_a_test_message_is_sent_where_nothing_is_and_erased_again(start: Start) -> None:
    async with opened(start().url) as sink:
        assert isinstance(sink, NatsSink)
        assert await sink.deliver([total("nobody", 0, cause="test"), total("u2")]) == []
        assert await sink.deliver([total("u2", 0, cause="test")]) == []
        assert await sink.held("u2") == VERSION
        assert await sink.forget("nobody") == 1


@pytest.mark.parametrize("foreign", [b"120", b"", b"not json", b'{"version":"9"}', b'["version"]', b"\xff"])
async def test_a_message_of_another_program_counts_as_no_version(start: Start, foreign: bytes) -> None:
    server = start()
    async with opened(server.url, bucket="credits") as sink:
        async with server.jetstream() as jetstream:
            await (await jetstream.key_value("credits")).put("u1", foreign)
        assert await sink.held("u1") is None
        assert list(await sink.deliver([total()])) == []
        assert await sink.held("u1") == VERSION


async def test_a_bucket_or_stream_that_exists_is_left_as_it_is(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.create_key_value(KeyValueConfig(bucket="credits", history=5))
    async with opened(server.url, bucket="credits") as sink:
        await sink.deliver([total()])
    async with server.jetstream() as jetstream:
        assert (await (await jetstream.key_value("credits")).status()).history == 5


async def test_a_stream_that_was_deleted_is_told_and_made_again(start: Start) -> None:
    server = start()
    async with opened(server.url) as sink:
        async with server.jetstream() as jetstream:
            await jetstream.delete_stream("CREDITS")
        with pytest.raises(SinkUnavailable, match="made again at the next try"):
            await sink.deliver([total()])
        assert list(await sink.deliver([total()])) == []


async def test_a_stream_of_that_name_without_our_subjects_is_told(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.add_stream(StreamConfig(name="CREDITS", subjects=["others.*"]))
    async with opened(server.url) as sink:
        with pytest.raises(SinkUnavailable, match=r"no stream takes credits\.\*: add it to the subjects of CREDITS"):
            await sink.deliver([total()])


async def test_subjects_that_another_stream_takes_are_told(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.add_stream(StreamConfig(name="ALL", subjects=["credits.>"]))
    with pytest.raises(SinkUnavailable, match="set the option stream"):
        async with opened(server.url):
            pass
    async with opened(server.url, stream="ALL") as sink:
        assert list(await sink.deliver([total()])) == []


async def test_a_full_stream_is_told(start: Start) -> None:
    server = start()
    async with server.jetstream() as jetstream:
        await jetstream.add_stream(
            StreamConfig(name="CREDITS", subjects=["credits.*"], max_bytes=1, discard=DiscardPolicy.NEW)
        )
    async with opened(server.url) as sink:
        with pytest.raises(SinkUnavailable, match="takes no more"):
            await sink.deliver([total()])


async def test_a_server_without_jetstream_is_told(start: Start) -> None:
    with pytest.raises(SinkUnavailable, match="start nats-server with -js"):
        async with opened(start(jetstream=False).url):
            pass


async def test_a_wrong_login_is_told_with_its_mend_and_without_itself(start: Start) -> None:
    server = start(password="right")
    for url, options in (
        (server.url.replace("right", "wr0ng"), {}),
        (f"nats://127.0.0.1:{server.port}", {}),
        (f"nats://127.0.0.1:{server.port}", {"token": "wr0ng"}),
    ):
        with pytest.raises(SinkUnavailable, match="mend the url or the credentials") as failure:
            async with opened(url, **options):
                pass
        assert "wr0ng" not in "".join(traceback.format_exception(failure.value))


async def test_missing_rights_are_told_at_once(start: Start) -> None:
    allowed = '["$JS.API.>", "_INBOX.>"]'
    server = start(f"authorization {{ users: [{{ user: a, password: pw, permissions: {{ publish: {allowed} }} }}] }}")
    async with opened(f"nats://a:pw@127.0.0.1:{server.port}") as sink:
        with pytest.raises(SinkUnavailable, match=r"lacks rights .*publish on credits\.\*"):
            await sink.deliver([total()])


@pytest.mark.parametrize(("subjects", "options"), [("credits.*", {}), ("$KV.b.*", {"bucket": "b"})])
async def test_the_rights_named_in_the_documentation_are_enough(
    start: Start, subjects: str, options: dict[str, Any]
) -> None:
    rights = f'publish: ["{subjects}", "$JS.API.>"], subscribe: ["_INBOX.>"]'
    server = start(f"authorization {{ users: [{{ user: a, password: pw, permissions: {{ {rights} }} }}] }}")
    async with opened(f"nats://a:pw@127.0.0.1:{server.port}", **options) as sink:
        assert isinstance(sink, NatsSink)
        assert list(await sink.deliver([total()])) == []
        assert await sink.held("u1") == VERSION
        assert await sink.forget("u1") == 1


async def test_a_token_opens_the_door(start: Start) -> None:
    server = start('authorization { token: "t0ken" }')
    url = f"127.0.0.1:{server.port}"
    for given, options in ((f"nats://{url}", {"token": "t0ken"}), (f"nats://t0ken@{url}", {})):
        async with opened(given, **options) as sink:
            assert list(await sink.deliver([total()])) == []
            assert "t0ken" not in repr(sink)


async def test_an_nkey_opens_the_door(start: Start) -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    server = start(f"authorization {{ users: [{{ nkey: {public} }}] }}")
    async with opened(server.url, nkey=seed.decode()) as sink:
        assert list(await sink.deliver([total()])) == []


async def test_tls_is_checked_and_a_line_without_it_gets_no_secret(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    pem = str(tmp_path / "server.pem")
    server = start(f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}')
    url = f"nats+tls://127.0.0.1:{server.port}"
    trusted = authority.cert_pem.bytes().decode()
    async with opened(url, ca=trusted) as sink:
        assert list(await sink.deliver([total()])) == []
    with pytest.raises(SinkUnavailable, match="certificate is not trusted"):
        async with opened(url):
            pass
    with pytest.raises(SinkUnavailable, match="certificate is not trusted"):  # which is another name's
        async with opened(url.replace("127.0.0.1", "localhost"), ca=trusted):
            pass


async def test_nats_tls_sends_nothing_secret_to_a_server_that_offers_no_tls() -> None:
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","headers":true,"auth_required":true}\r\n')
        heard.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SinkUnavailable, match="it offers no TLS"):
            async with opened(f"nats+tls://app:hunter2@127.0.0.1:{port}"):
                pass
    assert b"hunter2" not in heard


async def test_one_of_several_servers_is_enough(start: Start) -> None:
    server = start()
    async with opened(f"nats://127.0.0.1:1,127.0.0.1:{server.port}") as sink:
        assert list(await sink.deliver([total()])) == []


async def test_nobody_there_is_told_with_the_mend() -> None:
    with pytest.raises(SinkUnavailable, match=r"sink events: 127\.0\.0\.1:1: cannot be reached: is it up"):
        async with opened("nats://127.0.0.1:1"):
            pass


async def test_a_server_that_does_not_answer_is_given_up_in_time(start: Start) -> None:
    server = start()
    async with opened(server.url, timeout_seconds=1) as sink:
        server.hang()
        with pytest.raises(SinkUnavailable, match="no answer in time"):
            await sink.deliver([total()])


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("nats+ws://h", {}, "use nats or nats+tls"),
        ("nats://:hunter2@h:port", {}, "the url is not nats://"),
        ("nats://a:hunter2@", {}, "the url is not nats://"),
        ("nats://a:hunter2@h/path", {}, "the url is not nats://"),
        ("nats://a:hunter2@h", {"token": "hunter3"}, "keep one"),
        ("nats://h", {"token": "hunter2", "nkey": "hunter3"}, "keep one"),
        ("nats://h", {"bucket": "b", "stream": "S"}, "keep bucket, or stream and subject"),
        ("nats://h", {"subject": "credits.*"}, "subject: "),
        ("nats://h", {"stream": "A B"}, "stream: "),
        ("nats+tls://h", {"ca": "hunter2"}, "ca is not a certificate"),
        ("nats://h", {"tokn": "hunter2"}, "did you mean token?"),
    ],
)
def test_a_wrong_setting_is_one_line_without_secrets(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="events", url=url, options=options))
    assert says in str(failure.value)
    assert "hunter" not in str(failure.value)
    assert "\n" not in str(failure.value)
