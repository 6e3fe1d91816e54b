"""The operator's API of a real daemon: for nobody without the key, bounded in what it costs, exact in what it says."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from creditsd.config.settings import Settings, SinkSettings
from creditsd.daemon.app import Daemon
from creditsd.http.operator import Timings
from creditsd.http.operator.backend import Backend
from creditsd.http.operator.routes import VIEWERS
from creditsd.http.static_files import POLICY
from creditsd.metrics.rates import Rates
from tests.conftest import SERVERS, Database, eventually
from tests.faults.truth import client as redis_client
from tests.http.asking import KEY, Answer, Asking, Events, asking, bearer, counted, http, token
from tests.integration.line import OTHER, USER, MemorySink, configured
from tests.integration.running import running, until
from tests.servers import Valkey, free_port

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

OPERATOR = "an operator's key, long enough"
ADD = "INSERT INTO user_credits (user_id, credits, status, membership) VALUES (%s, %s, 'active', %s)"
HOSTILE = "<script>alert(1)</script>\"'&\u202e"
LOOKING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE application_name = 'creditsd operator' AND datname = current_database()"
)

ROUTES = [
    ("GET", "/v1/operator/state"),
    ("GET", "/v1/operator/stream"),
    ("GET", f"/v1/operator/explain/{USER}"),
    ("GET", "/v1/operator/deliveries"),
    ("POST", "/v1/operator/deliveries/retry"),
    ("POST", "/v1/operator/deliveries/drop"),
    ("POST", "/v1/operator/sinks/pause"),
    ("POST", "/v1/operator/sinks/resume"),
    ("POST", "/v1/operator/sinks/test"),
    ("POST", "/v1/operator/sinks/replay"),
]


def open_to_operators(installation: Database) -> Settings:
    digest = hashlib.sha256(OPERATOR.encode()).hexdigest()
    return configured(installation, http=http(operator_keys=["another key of an operator", f"sha256:{digest}"]))


@asynccontextmanager
async def led(settings: Settings, *sinks: MemorySink) -> AsyncIterator[tuple[Daemon, Asking]]:
    assert settings.http.address is not None
    async with running(settings, *sinks) as daemon, asking(settings.http.address[1]) as client:
        await until(daemon, "state", "leading")
        yield daemon, client


async def told(events: Events, name: str) -> Any:
    """Wait for the next event of a name, and return what it says."""
    while True:
        found = await events.message()
        assert found, "the stream has ended"
        if found.get("event") == name:
            return json.loads(found["data"])


async def test_only_the_operators_key_opens_anything(installation: Database) -> None:
    strangers = [{}, bearer(KEY), bearer(token(USER)), bearer(OPERATOR + "x"), {"X_API_Key": KEY}, bearer("")]
    async with led(open_to_operators(installation), MemorySink()) as (daemon, client):
        for method, path in ROUTES:
            for headers in strangers:
                refused = await client.get(path, method, **headers)
                assert (refused.status, "key" in refused.error) == (401, True), (method, path, headers)
            queried = await client.get(f"{path}?key={OPERATOR.replace(' ', '+')}", method)
            assert queried.status == 401
        for path in ("/v1/operator", "/v1/operator/", "/v1/operator/nothing"):
            assert (await client.get(path)).status == 404
        assert (await client.get("/v1/operator/state", **bearer(OPERATOR))).status == 200
        assert (await client.get("/v1/operator/state", **bearer("another key of an operator"))).status == 200
        assert (await client.read(USER, OPERATOR)).status == 401  # nor is it a server's
        assert counted(daemon._surface._http, "http_auth_failures", status="401") > 30


async def test_without_a_key_of_the_operators_there_is_no_page(installation: Database) -> None:
    async with led(configured(installation, http=http()), MemorySink()) as (_, client):
        for method, path in ROUTES:
            refused = await client.get(path, method, **bearer(KEY))
            assert (refused.status, "CREDITSD_HTTP__OPERATOR_KEYS" in refused.error) == (403, True)
        assert (await client.get("/")).status == 404
        assert (await client.get("/page/page.js")).status == 404


async def test_the_page_may_load_nothing_but_its_own_files(installation: Database) -> None:
    async with led(open_to_operators(installation), MemorySink()) as (_, client):
        page = await client.get("/")
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.headers["Content-Security-Policy"] == POLICY
        assert "unsafe" not in POLICY
        assert "<style" not in page.body
        assert "://" not in page.body.replace("http.operator_keys", "")
        again = await client.get("/", If_None_Match=page.headers["ETag"])
        assert (again.status, again.body) == (304, "")
        script = await client.get("/page/page.js")
        assert script.headers["Content-Type"] == "text/javascript; charset=utf-8"
        for path in ("/page/", "/page/../operator.py", "/page/%2e%2e%2foperator.py", "/page/archivo.OFL.txt"):
            assert (await client.get(path)).status == 404


async def test_the_stream_tells_the_state_and_every_change_as_it_happens(installation: Database) -> None:
    installation.run(ADD, [USER, 5, HOSTILE])
    async with (
        led(open_to_operators(installation), MemorySink()) as (daemon, client),
        client.stream("/v1/operator/stream", OPERATOR) as events,
    ):
        assert await told(events, "hello") == {"beside": None}
        state = await told(events, "state")
        assert (state["state"], state["problem"], state["line"]["users"]) == ("leading", None, 1)
        assert [(each["name"], each["dead"]) for each in state["sinks"]] == [("memory", 0)]
        [first] = (await told(events, "changes"))["totals"]
        assert (first["user_id"], first["credits"], first["before"], first["cause"]) == (USER, 5, None, "backfill")
        installation.run("UPDATE user_credits SET credits = 12 WHERE user_id = %s", [USER])
        [news] = (await told(events, "changes"))["totals"]
        assert (news["credits"], news["before"], news["membership"]) == (12, 5, HOSTILE)
        while sum(state["rates"]["totals"]) < 2:  # whole seconds alone are told
            state = await told(events, "state")
        assert sum(state["rates"]["changes"]) >= 1
        daemon.stop()
        assert await events.farewell() == "shutdown"


async def test_it_explains_a_user_whatever_is_in_the_rows(installation: Database) -> None:
    installation.run(ADD, [USER, 5, HOSTILE])
    async with led(open_to_operators(installation), MemorySink()) as (_, client):
        found = (await client.get(f"/v1/operator/explain/{USER}", **bearer(OPERATOR))).body["data"]
        assert (found["total"]["credits"], found["stored"]["credits"]) == (5, 5)
        assert [(row["counts"], row["why"], row["membership"]) for row in found["rows"]] == [
            (True, "it is active and never ends", HOSTILE)
        ]
        assert found["sinks"].keys() == {"memory"}
        nobody = (await client.get(f"/v1/operator/explain/{OTHER}", **bearer(OPERATOR))).body["data"]
        assert (nobody["total"]["credits"], nobody["rows"]) == (0, [])
        for wrong in ("%3Cscript%3E", "a%2Fb", "%00", "x" * 2000, "%27%3B--"):
            refused = await client.get(f"/v1/operator/explain/{wrong}", **bearer(OPERATOR))
            assert refused.status == 400, wrong
            assert "id" in refused.error


async def test_a_refused_delivery_is_listed_and_tried_again(installation: Database) -> None:
    installation.run(ADD, [USER, 5, None])
    installation.run(ADD, [OTHER, 7, None])
    sink = MemorySink()
    sink.refuses = {USER}
    async with led(open_to_operators(installation), sink) as (_, client):

        async def listed() -> list[dict[str, Any]]:
            answer = await client.get("/v1/operator/deliveries", **bearer(OPERATOR))
            found: list[dict[str, Any]] = answer.body["data"]["deliveries"]
            return found

        [letter] = await eventually(listed)
        assert (letter["sink"], letter["user_id"], letter["last_error"]) == ("memory", USER, "not today")
        installation.run("UPDATE creditsd.deliveries SET next_at = NULL")
        dead = await client.get("/v1/operator/deliveries?dead=true&sink=memory", **bearer(OPERATOR))
        assert len(dead.body["data"]["deliveries"]) == 1
        sink.refuses = set()
        whose = {"sink": "memory", "user_id": USER}
        retried = await client.post("/v1/operator/deliveries/retry", whose, OPERATOR)
        assert (retried.status, retried.body["data"]) == (200, {"deliveries": 1})
        await eventually(listed, lambda found: not found)
        assert sink.newest[USER].credits == 5
        gone = await client.post("/v1/operator/deliveries/drop", whose, OPERATOR)
        assert (gone.status, "refused delivery" in gone.error) == (400, True)
        wrong: list[Any] = [
            {},
            [],
            "x",
            {"sink": 1, "user_id": None},
            {"sink": "memory"},
            {"sink": HOSTILE, "user_id": None},
        ]
        for body in wrong:
            refused = await client.post("/v1/operator/deliveries/retry", body, OPERATOR)
            assert refused.status == 400, body
            assert refused.error


async def test_a_sink_is_paused_resumed_tested_and_told_everything_again(
    installation: Database, valkey: Valkey
) -> None:
    installation.run(ADD, [USER, 5, None])
    sinks = [SinkSettings(name="cache", url=valkey.url), SinkSettings(name="gone", url="redis://127.0.0.1:1/0")]
    settings = open_to_operators(installation).model_copy(update={"sinks": sinks})

    async def turned(how: str, sink: str = "cache") -> Answer:
        return await client.post(f"/v1/operator/sinks/{how}", {"sink": sink}, OPERATOR)

    async def held() -> Any:
        async with redis_client(valkey) as link:
            return await link.get(f"credits:{USER}")

    async with led(settings) as (_, client):
        await eventually(held)
        assert (await turned("pause")).status == 200
        await eventually(lambda: sink_state(client, "cache"), lambda state: state == "paused")
        tested = (await turned("test")).body["data"]
        assert (tested["left"], tested["seconds"] < 60) == ("it was erased there", True)
        assert (await turned("resume")).status == 200
        await eventually(lambda: sink_state(client, "cache"), lambda state: state == "current")
        await asyncio.to_thread(valkey.flush)
        assert (await turned("replay")).status == 200
        await eventually(held)
        failed = await turned("test", "gone")
        assert (failed.status, "127.0.0.1:1" in failed.error) == (502, True)
        unknown = await turned("pause", "cahce")
        assert (unknown.status, "cache" in unknown.error) == (400, True)
        wrong: list[Any] = [{}, [], {"sink": 1}]
        for body in wrong:
            assert (await client.post("/v1/operator/sinks/pause", body, OPERATOR)).status == 400


async def sink_state(client: Asking, name: str) -> str:
    """How a sink is, as the page is told."""
    sinks = (await client.get("/v1/operator/state", **bearer(OPERATOR))).body["data"]["sinks"]
    return str(next(each["state"] for each in sinks if each["name"] == name))


async def test_nobody_looks_and_nothing_is_asked_and_many_look_and_it_is_asked_once(installation: Database) -> None:
    settings = open_to_operators(installation)
    async with led(settings, MemorySink()) as (daemon, client):
        assert installation.run(LOOKING) == [(0,)]
        answers = await asyncio.gather(*(client.get("/v1/operator/state", **bearer(OPERATOR)) for _ in range(20)))
        assert len({json.dumps(each.body) for each in answers}) <= 2  # a second may end meanwhile
        assert installation.run(LOOKING) == [(1,)]
        asked = daemon._surface._backend._pool.get_stats()["requests_num"]
        assert asked <= 2


async def test_more_viewers_than_there_are_places_for_are_told_so(installation: Database) -> None:
    async with led(open_to_operators(installation), MemorySink()) as (daemon, client):
        async with AsyncExitStack() as viewers:
            for _ in range(VIEWERS):
                events = await viewers.enter_async_context(client.stream("/v1/operator/stream", OPERATOR))
                await told(events, "state")
            refused = await client.get("/v1/operator/stream", **bearer(OPERATOR))
            assert (refused.status, "look on already" in refused.error) == (503, True)

        async def free() -> int:
            return daemon._surface._operator._viewers

        await eventually(free, lambda viewers: viewers == 0)
        async with client.stream("/v1/operator/stream", OPERATOR) as events:
            await told(events, "state")


async def test_without_its_database_it_says_what_it_knows(installation: Database) -> None:
    away = configured(installation).model_copy(update={"dsn": f"host=127.0.0.1 port={free_port()} password=swordfish"})
    impatient = Timings(state_patience_seconds=0.2)
    health: dict[str, object] = {"state": "disconnected", "doorbell": None, "problem": None}
    async with Backend(away, Rates(), [], lambda: health, impatient) as backend:
        said = json.loads(await backend.state())
    assert (said["state"], "line" in said) == ("disconnected", False)
    assert "PostgreSQL" in said["problem"]
    assert "swordfish" not in said["problem"]
