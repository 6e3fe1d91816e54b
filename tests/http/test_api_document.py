"""What `/openapi.json` describes is what is served: each path, each answer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

import creditsd
from creditsd.config.settings import Settings
from creditsd.daemon.surface import Surface
from creditsd.daemon.timings import Timings as DaemonTimings
from creditsd.domain.errors import DatabaseUnavailable, RowsError
from creditsd.domain.total import NEWEST_VERSION, Total
from creditsd.http import bulk_reads, history
from creditsd.http.api_document import FILE
from creditsd.http.middleware import ASKED_HEADERS
from creditsd.http.operator.routes import LONGEST_ID
from creditsd.http.server import Timings
from creditsd.metrics.rates import Rates
from creditsd.metrics.registry import registry
from tests.http.asking import KEY, ONE, TWO, Answer, Asking, Shelf, bearer, served, token
from tests.http.described import Described

DESCRIBED = Described()
ALL, ME, USER = "/v1/credits", "/v1/me/credits", "/v1/users/{id}/credits"


def filled(*users: str) -> Shelf:
    shelf = Shelf()
    for number, user_id in enumerate(users, 1):
        shelf.put(user_id, number)
        shelf.totals[user_id] = (number, Total.nothing(user_id)._replace(version=number).json())
    return shelf


def registered(parts: Iterable[Any]) -> set[tuple[str, str]]:
    """Each method and path that parts have routes for, as they stand in a document."""
    application = web.Application()
    for part in parts:
        application.add_routes(part.routes())
    found = {
        (route.method, route.resource.canonical) for route in application.router.routes() if route.resource is not None
    }
    return {(method, path) for method, path in found if method != "HEAD" or ("GET", path) not in found}


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(DESCRIBED.document).validate()


def test_each_route_of_a_daemon_is_described_and_what_is_described_is_a_route() -> None:
    surface = Surface(Settings(), registry(), Rates(), dict, [], parts=(), beside=None, timings=DaemonTimings())
    assert registered(surface._http._parts) == DESCRIBED.operations


async def test_the_paths_that_are_served_here_are_described_and_no_other() -> None:
    async with served(Shelf()) as (surface, client):
        answer = await client.get("/openapi.json")
        DESCRIBED.holds(answer, "/openapi.json")
        assert answer.body["info"]["version"] == creditsd.__version__
        here = {path for _, path in registered(surface._parts)}
        assert answer.body["paths"].keys() == here < DESCRIBED.document["paths"].keys()
        assert answer.body["paths"][ME] == DESCRIBED.document["paths"][ME]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        again = await client.get("/openapi.json", If_None_Match=answer.headers["ETag"])
        assert (again.status, again.body) == (304, "")
        OpenAPIV31SpecValidator(answer.body).validate()


def test_it_is_in_the_package_as_it_is_here() -> None:
    assert FILE.is_relative_to(Path(creditsd.__file__).parent)
    assert json.loads(FILE.read_text())["openapi"] == "3.1.0"


def test_bounds_and_headers_are_those_of_the_code() -> None:
    components, paths = DESCRIBED.document["components"], DESCRIBED.document["paths"]
    assert components["schemas"]["Asked"]["properties"]["user_ids"]["maxItems"] == bulk_reads.MOST_USERS
    assert components["parameters"]["Limit"]["schema"]["maximum"] == history.PAGE_STEPS
    assert components["parameters"]["MinVersion"]["schema"]["maximum"] == NEWEST_VERSION
    assert paths["/v1/operator/explain/{user_id}"]["get"]["parameters"][0]["schema"]["maxLength"] == LONGEST_ID
    headers = {each["name"] for each in components["parameters"].values() if each["in"] == "header"}
    assert headers <= set(ASKED_HEADERS.split(", "))


async def test_answers_are_as_described() -> None:
    async with served(filled(ONE, TWO)) as (_, client):
        mine, servers = bearer(token()), bearer(KEY)
        for path in (ME, f"{ME}?min_version=1"):
            DESCRIBED.holds(await client.get(path, **mine), ME)
        for user_id in (ONE, "00000000-0000-0000-0000-000000000077"):
            DESCRIBED.holds(await client.get(USER.format(id=user_id), **servers), USER)
        answer = await client.post(ALL, {"user_ids": [ONE, TWO]}, KEY)
        assert len(answer.body["data"]) == 2
        DESCRIBED.holds(answer, ALL, "POST")
        for path in ("/metrics", "/creditsd.js", "/openapi.json"):
            answer = await client.get(path)
            assert answer.status == 200
            DESCRIBED.holds(answer, path)
        open_metrics = await client.get("/metrics", Accept="application/openmetrics-text")
        DESCRIBED.holds(open_metrics, "/metrics")
        script = await client.get("/creditsd.js")
        DESCRIBED.holds(await client.get("/creditsd.js", If_None_Match=script.headers["ETag"]), "/creditsd.js")
        for path, credential in ((f"{ME}/stream", token()), (USER.format(id=ONE) + "/stream", KEY)):
            async with client.stream(path, credential) as events:
                DESCRIBED.fits("Total", await events.total())
                described = USER + "/stream" if "users" in path else path
                headers = dict(events.response.headers)
                DESCRIBED.holds(Answer(events.response.status, "", headers), described)


async def refused(client: Asking) -> list[tuple[int, Answer, str, str]]:
    """Each error that a request alone brings about: the status, the answer, and where."""
    mine, servers = bearer(token()), bearer(KEY)
    other = USER.format(id=TWO)
    return [
        (400, await client.get(f"{ME}?min_version=x", **mine), ME, "GET"),
        (400, await client.get(USER.format(id="x"), **servers), USER, "GET"),
        (400, await client.get(USER.format(id="x") + "/stream", **servers), USER + "/stream", "GET"),
        (400, await client.send(ALL, b"", KEY), ALL, "POST"),
        (413, await client.send(ALL, b" " * 300_000, KEY), ALL, "POST"),
        (401, await client.get(ME), ME, "GET"),
        (401, await client.get(other, **bearer("no key")), USER, "GET"),
        (401, await client.get(f"{ME}/stream", **bearer(token(seconds=-60))), f"{ME}/stream", "GET"),
        (401, await client.send(ALL, b"", "no key"), ALL, "POST"),
        (403, await client.get(ME, **servers), ME, "GET"),
        (403, await client.get(other, **mine), USER, "GET"),
        (403, await client.get(f"{other}/stream", **mine), USER + "/stream", "GET"),
        (403, await client.send(ALL, b"", token()), ALL, "POST"),
        (401, await client.get("/metrics"), "/metrics", "GET"),
        (403, await client.get("/metrics", **mine), "/metrics", "GET"),
        (405, await client.get(ME, "DELETE", **mine), ME, "GET"),
        (417, await client.get(ME, Expect="tea", **mine), ME, "GET"),
        (431, await client.get(ME, X_Long="x" * 9000, **mine), ME, "GET"),
    ]


async def test_errors_are_as_described() -> None:
    async with served(filled(ONE), metrics_public=False) as (_, client):
        for status, answer, path, method in await refused(client):
            assert (answer.status, path) == (status, path)
            assert answer.error
            DESCRIBED.holds(answer, path, method)
        assert DESCRIBED.operations >= {("GET", ME)}
    hasty = Timings(bulk_reads=bulk_reads.Timings(body_seconds=0.05))
    async with served(Shelf(), timings=hasty) as (_, client):
        assert (await client.promise(ALL, KEY)).startswith(b"HTTP/1.1 408 ")
        assert "408" in DESCRIBED.document["paths"][ALL]["post"]["responses"]


async def test_too_many_requests_are_as_described() -> None:
    slow: dict[str, Any] = dict.fromkeys(
        (f"requests_per_second_per_{who}" for who in ("address", "caller", "server")), 0.01
    )
    async with served(filled(ONE), **slow) as (_, client):
        for path, method, credential in (
            (ME, "GET", token()), (f"{ME}/stream", "GET", token()), (USER, "GET", KEY), (f"{USER}/stream", "GET", KEY),
            (ALL, "POST", KEY), ("/openapi.json", "GET", token()), ("/creditsd.js", "GET", token()),
        ):  # fmt: skip
            answers = [await client.get(path.format(id=ONE), method, **bearer(credential)) for _ in range(3)]
            assert answers[-1].status == 429
            DESCRIBED.holds(answers[-1], path, method)


@pytest.mark.parametrize(
    ("failure", "status"), [(DatabaseUnavailable("away"), 503), (RowsError("the rows of 'x'", ONE), 500)]
)
async def test_what_cannot_be_told_is_as_described(failure: Exception, status: int) -> None:
    shelf = filled(ONE)
    shelf.failure = failure
    async with served(shelf) as (_, client):
        for path, answer, method in (
            (ME, await client.get(ME, **bearer(token())), "GET"),
            (f"{ME}/stream", await client.get(f"{ME}/stream", **bearer(token())), "GET"),
            (USER, await client.read(ONE, KEY), "GET"),
            (ALL, await client.post(ALL, {"user_ids": [ONE]}, KEY), "POST"),
        ):
            assert answer.status == (200 if path == ALL and isinstance(failure, RowsError) else status)
            DESCRIBED.holds(answer, path, method)
