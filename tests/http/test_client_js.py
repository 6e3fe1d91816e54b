"""The JavaScript client as a page loads it."""

from __future__ import annotations

from creditsd.http.client_js import FILE
from tests.http.asking import Shelf, served


async def test_any_page_may_load_the_client_and_asks_again_only_for_a_new_one() -> None:
    async with served(Shelf()) as (_, client):
        found = await client.get("/creditsd.js", Accept_Encoding="gzip", Origin="https://anywhere.example")
        assert (found.status, found.body) == (200, FILE.read_text())
        assert found.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert found.headers["Content-Encoding"] == "gzip"
        assert found.headers["Access-Control-Allow-Origin"] == "*"
        plain = await client.get("/creditsd.js", Accept_Encoding="identity")
        assert (plain.body, "Content-Encoding" in plain.headers) == (found.body, False)
        assert plain.headers["ETag"] == found.headers["ETag"]
        again = await client.get("/creditsd.js", If_None_Match=found.headers["ETag"])
        assert (again.status, again.body) == (304, "")
        other = await client.get("/creditsd.js", If_None_Match='"another"')
        assert other.status == 200
