"""What a real daemon answers is as `/openapi.json` describes it."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.conftest import SERVERS, Database, eventually
from tests.http.asking import KEY, Answer, asking, bearer, http, token
from tests.http.described import Described
from tests.integration.line import OTHER, USER, MemorySink, configured
from tests.integration.running import running, until

pytestmark = pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)

OPERATOR = "an operator's key, long enough"
ADD = "INSERT INTO user_credits (user_id, credits, status, membership) VALUES (%s, %s, 'active', %s)"
API = "/v1/operator"


async def test_totals_and_their_history_are_as_described(installation: Database) -> None:
    events = {"low_credits": 10, "recovered_credits": 50}
    settings = configured(installation, http=http(), history={"days": 1}, events=events)
    described, sink = Described(), MemorySink()
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        assert settings.http.address is not None
        async with asking(settings.http.address[1]) as client:
            mine, servers = bearer(token()), bearer(KEY)
            async with client.stream("/v1/me/credits/stream", token()) as stream:
                described.fits("Total", await stream.total())
                for amount in (70, -65):
                    installation.run(ADD, [USER, amount, "Pro"])
                    described.fits("Total", await stream.total())
                for path in ("/v1/me/credits", "/v1/me/credits/history"):
                    described.holds(await client.get(path, **mine), path)
                for user_id in (USER, OTHER):
                    for end in ("", "/history"):
                        answer = await client.get(f"/v1/users/{user_id}/credits{end}", **servers)
                        described.holds(answer, f"/v1/users/{{id}}/credits{end}")
                described.holds(
                    await client.post("/v1/credits", {"user_ids": [OTHER, USER]}, KEY), "/v1/credits", "POST"
                )
                page = await client.get("/v1/me/credits/history?limit=1", **mine)
                assert page.body["data"]["next"] is not None
                described.holds(page, "/v1/me/credits/history")
                for wrong in ("limit=0", "limit=101", "cursor=x"):
                    refused = await client.get(f"/v1/me/credits/history?{wrong}", **mine)
                    assert refused.status == 400
                    described.holds(refused, "/v1/me/credits/history")
                for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/"):
                    answer = await client.get(path)
                    assert answer.status == (404 if path == "/" else 200)
                    described.holds(answer, path)
                daemon.stop()
                found = await stream.message()
                assert found["event"] == "close"
                described.fits("Close", json.loads(found["data"]))


async def test_what_the_operators_page_asks_is_as_described(installation: Database) -> None:
    settings = configured(installation, http=http(operator_keys=[OPERATOR]))
    described, sink = Described(), MemorySink()
    sink.refuses = {USER}
    async with running(settings, sink) as daemon:
        await until(daemon, "state", "leading")
        assert settings.http.address is not None
        installation.run(ADD, [USER, 70, "Pro"])
        refusals = partial(_count, installation)
        await eventually(refusals, lambda found: found == 1)
        async with asking(settings.http.address[1]) as client:
            key = bearer(OPERATOR)
            for path in (f"{API}/state", f"{API}/deliveries"):
                described.holds(await client.get(path, **key), path)
            assert (await client.get(f"{API}/deliveries", **key)).body["data"]["deliveries"]
            for user_id in (USER, OTHER, "x"):
                answer = await client.get(f"{API}/explain/{user_id}", **key)
                assert answer.status == (400 if user_id == "x" else 200)
                described.holds(answer, f"{API}/explain/{{user_id}}")
            described.holds(await client.get(f"{API}/state", **bearer(KEY)), f"{API}/state")
            for path in ("retry", "drop"):
                for body in ({"sink": "memory", "user_id": USER}, {"sink": "memory"}):
                    answer = await client.post(f"{API}/deliveries/{path}", body, OPERATOR)
                    assert answer.status == (200 if "user_id" in body else 400)
                    described.holds(answer, f"{API}/deliveries/{path}", "POST")
            for how, status in (("pause", 200), ("resume", 200), ("replay", 200), ("test", 400)):
                answer = await client.post(f"{API}/sinks/{how}", {"sink": "memory"} if status == 200 else {}, OPERATOR)
                assert answer.status == status
                described.holds(answer, f"{API}/sinks/{how}", "POST")
            page = await client.get("/")
            described.holds(page, "/")
            described.holds(await client.get("/", If_None_Match=page.headers["ETag"]), "/")
            for name in ("page.css", "no such file"):
                described.holds(await client.get(f"/page/{name.replace(' ', '%20')}"), "/page/{name}")
            async with client.stream(f"{API}/stream", OPERATOR) as stream:
                described.holds(Answer(200, "", dict(stream.response.headers)), f"{API}/stream")


async def _count(database: Database) -> int:
    return int(database.run("SELECT count(*) FROM creditsd.deliveries")[0][0])
