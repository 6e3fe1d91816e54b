from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import Sink, SinkBusy, make
from creditsd.sinks.supabase.database import ByDatabase
from creditsd.sinks.supabase.options import Options
from tests.conftest import eventually
from tests.sinks.harness import VERSION, total
from tests.sinks.realtime import Endpoint, Project, server
from tests.sinks.supabase_harness import PASSWORD, url
from tests.sinks.supabase_http_harness import KEY, made
from tests.workshop import free_port


@pytest.fixture(scope="module")
def altered() -> Iterator[Project]:
    """A project of this module's own, each test of which leaves the schema as it was."""
    project = Project()
    yield project
    project.remove()


@pytest.fixture
def project(altered: Project) -> Project:
    altered.forget()
    return altered


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made_up = Endpoint(KEY)
    await made_up.start()
    try:
        yield made_up
    finally:
        await made_up.stop()


@asynccontextmanager
async def opened(sink: Sink) -> AsyncIterator[Sink]:
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


def by_database(project: Project, user: str = "postgres") -> Sink:
    return make(SinkSettings(name="pages", url=url(server().port, project.name, user)))


def users(count: int) -> list[Total]:
    return [total(f"u{n}", VERSION + n) for n in range(count)]


def jwt(role: str) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"role": role, "iss": "supabase"})
    written = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*written, "signature"])


# By the database.


async def test_a_message_is_private_and_carries_the_total(project: Project) -> None:
    async with opened(by_database(project)) as sink:
        await sink.deliver([total(credits=Decimal("0.10"))])
    ((topic, event, extension, private, payload),) = project.run(
        "SELECT topic, event, extension, private, payload - 'id' FROM realtime.messages"
    )
    assert (topic, event, extension, private) == ("credits:u1", "credits.updated", "broadcast", True)
    assert payload == json.loads(total(credits=Decimal("0.10")).json())


async def test_the_option_begins_the_topics_by_the_database_and_by_http(project: Project, endpoint: Endpoint) -> None:
    address, topics = url(server().port, project.name), {"topic": "images:"}
    for sink in (
        make(SinkSettings(name="pages", url=address, options=topics)),
        made(endpoint.port, **topics),
    ):
        async with opened(sink):
            await sink.deliver([total()])
    assert project.run("SELECT topic FROM realtime.messages") == [("images:u1",)]
    assert [each["topic"] for each in endpoint.messages] == ["images:u1"]


async def test_opening_leaves_no_message_behind(project: Project) -> None:
    async with opened(by_database(project)):
        assert project.run("SELECT FROM realtime.messages") == []


async def test_a_message_that_cannot_be_stored_is_its_users_alone_and_the_others_are_sent_once(
    project: Project,
) -> None:
    project.run("ALTER TABLE realtime.messages ADD CONSTRAINT odd CHECK (topic NOT IN ('credits:u3', 'credits:u7'))")
    try:
        async with opened(by_database(project)) as sink:
            refused = await sink.deliver(users(10))
            (alone,) = await sink.deliver(users(4)[3:])
    finally:
        project.run("ALTER TABLE realtime.messages DROP CONSTRAINT odd")
    assert [each.total.user_id for each in refused] == ["u3", "u7"]
    assert "odd" in refused[0].reason
    assert alone.total.user_id == "u3"
    assert sorted(topic for (topic,) in project.run("SELECT topic FROM realtime.messages")) == [
        f"credits:u{n}" for n in range(10) if n not in (3, 7)
    ]


async def test_without_a_partition_it_stands_still_and_says_what_makes_one(project: Project) -> None:
    async with opened(by_database(project)) as sink:
        project.run("ALTER TABLE realtime.messages DETACH PARTITION realtime.messages_now")
        try:
            for _ in range(2):
                with pytest.raises(SinkUnavailable, match="makes room when a client connects"):
                    await sink.deliver(users(3))
        finally:
            project.run(
                "ALTER TABLE realtime.messages ATTACH PARTITION realtime.messages_now "
                "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
            )
        assert list(await sink.deliver(users(3))) == []
    assert len(project.run("SELECT FROM realtime.messages")) == 3


async def test_a_connection_that_was_ended_is_made_again(project: Project) -> None:
    async with opened(by_database(project)) as sink:
        ended = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s"
        assert project.run(ended, ["creditsd sink pages"]) == [(True,)]
        with pytest.raises(SinkUnavailable, match="sink pages"):
            await sink.deliver(users(1))
        assert list(await sink.deliver(users(1))) == []
    assert len(project.messages("credits:u0")) == 1


async def test_a_role_without_rights_is_told_whom_to_log_in_as(project: Project) -> None:
    project.run("CREATE ROLE stranger LOGIN")
    sink = by_database(project, "stranger")
    with pytest.raises(SinkUnavailable, match="its role may not send: log in as postgres"):
        await sink.open()
    project.run("GRANT USAGE ON SCHEMA realtime TO stranger; GRANT INSERT ON realtime.messages TO stranger")
    with pytest.raises(SinkUnavailable, match="its role may not send"):  # row level security: a mere warning there
        await sink.open()
    await sink.close()
    project.run("DROP OWNED BY stranger; DROP ROLE stranger")


@pytest.fixture
def locked(project: Project) -> Iterator[str]:
    """A role that is asked for its password, as soon as the server has read that it is to be."""
    ((file,),) = project.run("SHOW hba_file")
    before = Path(file).read_text()
    Path(file).write_text("host all locked all scram-sha-256\n" + before)
    project.run("CREATE ROLE locked LOGIN PASSWORD 'another'")
    project.run("SELECT pg_reload_conf()")
    yield "locked"
    Path(file).write_text(before)
    project.run("SELECT pg_reload_conf()")
    project.run("DROP ROLE locked")


async def test_a_wrong_password_is_told_without_it(project: Project, locked: str) -> None:
    sink = by_database(project, locked)

    async def failure() -> str:
        try:
            await sink.open()
        except SinkUnavailable as error:
            return str(error)
        finally:
            await sink.close()
        return ""

    told = await eventually(failure, lambda text: "refuses the user or password: mend the url" in text)
    assert PASSWORD not in told


async def test_a_database_that_is_none_of_supabase_is_told() -> None:
    sink = make(SinkSettings(name="pages", url=f"supabase://postgres@127.0.0.1:{server().port}/template1"))
    with pytest.raises(SinkUnavailable, match="is this the database of a Supabase project"):
        await sink.open()
    await sink.close()


async def test_nobody_there_and_nobody_answering_are_told(project: Project) -> None:
    gone = make(SinkSettings(name="pages", url=f"supabase://postgres@127.0.0.1:{free_port()}/postgres"))
    with pytest.raises(SinkUnavailable, match="refused"):
        await gone.open()
    sink = ByDatabase("pages", server().dsn(project.name), Options())
    async with opened(sink):
        with server().connect(project.name) as other, other.transaction():
            other.execute("LOCK TABLE realtime.messages")
            sink._options = Options(timeout_seconds=0.2)
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.deliver(users(1))
            sink._options = Options()
        assert list(await sink.deliver(users(1))) == []


# By HTTP.


async def test_a_request_is_what_the_endpoint_reads(endpoint: Endpoint) -> None:
    async with opened(made(endpoint.port)) as sink:
        await sink.deliver(users(2))
    (document,) = endpoint.requests
    assert document == {
        "messages": [
            {
                "topic": f"credits:{each.user_id}",
                "event": "credits.updated",
                "payload": json.loads(each.json()),
                "private": True,
            }
            for each in users(2)
        ]
    }


async def test_a_message_it_does_not_take_is_its_users_alone_and_the_others_are_sent_once(endpoint: Endpoint) -> None:
    endpoint.max_payload_bytes = 2000
    batch = users(40)
    batch[7] = total("u7", VERSION + 7, membership="x" * 3000)
    async with opened(made(endpoint.port)) as sink:
        (refused,) = await sink.deliver(batch)
    assert (refused.total.user_id, refused.status) == ("u7", 422)
    assert "Payload size exceeds tenant limit" in refused.reason
    assert sorted(each["payload"]["version"] for each in endpoint.messages) == [
        VERSION + n for n in range(40) if n != 7
    ]


async def test_too_many_at_once_are_halved_until_they_pass(endpoint: Endpoint) -> None:
    endpoint.messages_per_second = 30
    batch = users(200)
    async with opened(made(endpoint.port)) as sink:
        for _ in (100, 50):
            with pytest.raises(SinkBusy, match=r"answered 429: .*reduce the batch size") as busy:
                await sink.deliver(batch)
            assert busy.value.through == 0
        assert list(await sink.deliver(batch)) == []
        endpoint.messages_per_second = 25  # where 26 go now: each batch that passes lets one more go at once
        with pytest.raises(SinkBusy):
            await sink.deliver(batch[:26])
    assert [each["payload"]["version"] for each in endpoint.messages] == [each.version for each in batch]


async def test_what_has_passed_before_it_is_asked_for_patience_is_settled(endpoint: Endpoint) -> None:
    endpoint.max_payload_bytes = 2000
    batch = users(150)
    batch[3] = total("u3", VERSION + 3, membership="x" * 3000)
    endpoint.busy_for = "credits:u120"
    async with opened(made(endpoint.port)) as sink:
        with pytest.raises(SinkBusy) as busy:
            await sink.deliver(batch)
    assert busy.value.through == 100
    assert [each.total.user_id for each in busy.value.refused] == ["u3"]


@pytest.mark.parametrize(("header", "pause"), [("17", 17.0), ("", None), ("soon", None), ("9" * 30, 86_400.0)])
async def test_it_is_left_alone_as_long_as_it_asks(endpoint: Endpoint, header: str, pause: float | None) -> None:
    endpoint.failing = web.Response(status=429, headers={"Retry-After": header})
    async with opened(made(endpoint.port)) as sink:
        with pytest.raises(SinkBusy) as busy:
            await sink.deliver(users(1))
    assert busy.value.retry_after_seconds == pause


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "refuses the key, or knows no such project"),
        (403, "refuses the key: mend the option key"),
        (404, "there is no Realtime at this address"),
        (302, "redirects are not followed"),
        (500, "answered 500"),
        (503, "answered 503: *** is down"),
        (540, "answered 540"),
    ],
)
async def test_what_is_wrong_with_the_project_keeps_everyone_waiting(
    endpoint: Endpoint, status: int, says: str
) -> None:
    endpoint.failing = web.Response(
        status=status, text=f"{KEY} is down", headers={"Location": "http://169.254.169.254"}
    )
    async with opened(made(endpoint.port)) as sink:
        with pytest.raises(SinkUnavailable) as failure:
            await sink.deliver(users(3))
        endpoint.failing = None
        assert list(await sink.deliver(users(3))) == []
    assert says in str(failure.value)
    assert KEY not in str(failure.value)


async def test_a_certificate_that_nobody_trusts_is_told_and_one_that_is_named_is_trusted(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def accept(request: web.Request) -> web.Response:
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/realtime/v1/api/broadcast", accept)
    runner, port = web.AppRunner(app, access_log=None), free_port()
    await runner.setup()
    await web.TCPSite(runner, "localhost", port, ssl_context=context).start()
    try:
        for options, trusted in (({}, False), ({"ca": (tmp_path / "ca.pem").read_text()}, True)):
            settings = SinkSettings(
                name="pages", url=f"supabase+https://localhost:{port}", options={"key": KEY} | options
            )
            async with opened(make(settings)) as sink:
                if trusted:
                    assert list(await sink.deliver(users(1))) == []
                else:
                    with pytest.raises(SinkUnavailable, match="certificate"):
                        await sink.deliver(users(1))
    finally:
        await runner.cleanup()


# The settings.


@pytest.mark.parametrize(
    ("address", "options", "says"),
    [
        ("supabase+https://p.supabase.co", {}, "key is missing"),
        ("supabase+https://p.supabase.co", {"key": "hunter2\nhunter2"}, "key is not a key"),
        ("supabase+https://p.supabase.co", {"key": "sb_publishable_hunter2"}, "key is the public one"),
        ("supabase+https://p.supabase.co", {"key": jwt("anon")}, "key is the public one"),
        ("supabase+https://p.supabase.co", {"key": "a", "ca": "hunter2"}, "ca is not a certificate in PEM"),
        ("supabase+https://u:hunter2@p.supabase.co", {"key": "a"}, "is not supabase+https://PROJECT.supabase.co"),
        ("supabase+https://p.supabase.co?key=hunter2", {"key": "a"}, "is not supabase+https://PROJECT.supabase.co"),
        ("supabase+https://", {"key": "a"}, "is not supabase+https://PROJECT.supabase.co"),
        ("supabase+ws://p.supabase.co", {"key": "a"}, "use supabase, supabase+https or supabase+http"),
        ("supabase:", {}, "is not supabase://user:password@host:5432/postgres"),
        ("supabase://u:hun%ter2@h/d", {}, "is not supabase://user:password@host:5432/postgres"),
        ("supabase://u:hunter2@h/d", {"key": "a"}, "key and ca_file go with supabase+https"),
        ("supabase://u:hunter2@h/d", {"topic": ""}, "topic: String should match"),
        ("supabase://u:hunter2@h/d", {"topic": "of images:"}, "topic: String should match"),
        ("supabase://u:hunter2@h/d", {"kye": "a"}, "unknown option 'kye': did you mean key?"),
    ],
)
def test_settings_that_cannot_work_are_told_without_their_secrets(
    address: str, options: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="pages", url=address, options=options))
    assert says in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_service_key_of_either_kind_is_taken() -> None:
    for key in (jwt("service_role"), "sb_secret_x", "not.a.jwt", "e30.W10.x"):
        address = "supabase+https://p.supabase.co/base"
        assert make(SinkSettings(name="pages", url=address, options={"key": key})).max_batch > 0
