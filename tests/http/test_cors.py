"""Which pages of other origins may ask from a browser."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from creditsd.config.http_settings import HttpSettings
from tests.http.asking import Shelf, bearer, served, token


async def test_pages_of_listed_origins_may_ask_and_others_may_not() -> None:
    page = "https://app.example.com"
    preflight = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "authorization"}
    async with served(Shelf(), cors_origins=[page]) as (_, client):
        asked = await client.get("/v1/me/credits/stream", "OPTIONS", Origin=page, **preflight)
        assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, page)
        assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in asked.headers
        for credential, status in ((token(), 200), ("wrong", 401)):
            answer = await client.get("/v1/me/credits", Origin=page, **bearer(credential))
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (status, page)
            assert answer.headers["Vary"] == "Origin"
        async with client.stream("/v1/me/credits/stream", token(), Origin=page) as stream:
            assert stream.response.headers["Access-Control-Allow-Origin"] == page
        for other in ("https://app.example.com.evil.com", "http://app.example.com", "null", page + ":444", ""):
            refused = await client.get("/v1/me/credits", "OPTIONS", Origin=other, **preflight)
            assert (refused.status, "Access-Control-Allow-Origin" in refused.headers) == (403, False)
            answer = await client.get("/v1/me/credits", Origin=other, **bearer(token()))
            assert "Access-Control-Allow-Origin" not in answer.headers
    async with served(Shelf(), cors_origins=["*"]) as (_, client):
        answer = await client.get("/v1/me/credits", Origin="https://any.where", **bearer(token()))
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
    async with served(Shelf()) as (_, client):
        assert (await client.get("/v1/me/credits", "OPTIONS", Origin=page, **preflight)).status == 403


WILD = ["https://*.preview.example.com", "https://app-*.example.com", "http://*-web.dev.example.com:3000"]


@pytest.mark.parametrize(
    "page",
    [
        "https://a.preview.example.com",
        "https://pr-17_x.preview.example.com",
        "https://xn--bcher-kva.preview.example.com",
        "https://app-1.example.com",
        "https://app--.example.com",
        "http://a-web.dev.example.com:3000",
    ],
)
async def test_pages_of_an_origin_with_one_part_left_open_may_ask(page: str) -> None:
    async with served(Shelf(), cors_origins=["https://example.com", *WILD]) as (_, client):
        asked = await client.get("/v1/me/credits", "OPTIONS", Origin=page, Access_Control_Request_Method="GET")
        assert (asked.status, asked.headers["Access-Control-Allow-Origin"]) == (204, page)
        answer = await client.get("/v1/me/credits", Origin=page, **bearer(token()))
        assert answer.headers["Access-Control-Allow-Origin"] == page
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    "page",
    [
        "https://preview.example.com",
        "https://.preview.example.com",
        "https://a.b.preview.example.com",
        "https://evil.com/.preview.example.com",
        "https://evil.com?.preview.example.com",
        "https://evil.com:80.preview.example.com",
        "https://a.preview.example.com.evil.com",
        "https://a.preview.example.com:444",
        "http://a.preview.example.com",
        "https://apreview.example.com",
        "https://a.previewxexample.com",
        "https://user@.preview.example.com",
        "https://A.preview.example.com",
        "https://app-.example.com",
        "https://app-a.b.example.com",
        "https://xapp-1.example.com",
        "https://*.preview.example.com",
        "https://app-*.example.com",
        "https://" + "a" * 64 + ".preview.example.com",
        "null",
        "http://a-web.dev.example.com",
        "https://\u00e4.preview.example.com",
        "*",
        "",
    ],
)
async def test_what_a_star_does_not_stand_for_may_not_ask(page: str) -> None:
    async with served(Shelf(), cors_origins=["https://example.com", *WILD]) as (_, client):
        refused = await client.get("/v1/me/credits", "OPTIONS", Origin=page, Access_Control_Request_Method="GET")
        assert (refused.status, "Access-Control-Allow-Origin" in refused.headers) == (403, False)
        answer = await client.get("/v1/me/credits", Origin=page, **bearer(token()))
        assert "Access-Control-Allow-Origin" not in answer.headers


ONE_STAR = "may have one * inside one label of its host, in small letters: https://*.preview.example.com"
OWN_DOMAIN = "needs a domain of your own, of two labels or more, behind the one with the *"


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ("https://*", ONE_STAR),
        ("https://*:443", ONE_STAR),
        ("*://app.example.com", ONE_STAR),
        ("https://**.a.example.com", ONE_STAR),
        ("https://*.*.example.com", ONE_STAR),
        ("https://*.example.com:*", ONE_STAR),
        ("https://*.example.com/", ONE_STAR),
        ("https://*.Example.com", ONE_STAR),
        ("https://*.example.com\n", ONE_STAR),
        ("https://*..example.com", ONE_STAR),
        ("https://*@example.com", ONE_STAR),
        ("*.example.com", ONE_STAR),
        ("https://example.com.*", ONE_STAR),
        ("*,*", ONE_STAR),
        ("https://*.com", OWN_DOMAIN),
        ("https://app-*.com", OWN_DOMAIN),
        ("https://app.*.com", OWN_DOMAIN),
        ("https://*.0.0.1", OWN_DOMAIN),
        ("https://*.localhost:3000", OWN_DOMAIN),
    ],
)
def test_an_origin_that_leaves_more_open_is_refused(origin: str, line: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(line)):
        HttpSettings(cors_origins=[origin])
