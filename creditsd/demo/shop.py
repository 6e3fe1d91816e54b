"""A shop to press buttons in: writes as an application would, and signs its customers in for the public stream."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jwt
import orjson
from aiohttp import web

from creditsd.demo.people import PACKS, YOU, Person
from creditsd.domain.total import encode
from creditsd.http.errors import RequestRefused, answer
from creditsd.http.operator import PageBeside
from creditsd.http.static_files import StaticFiles
from creditsd.postgres import sql_files
from creditsd.postgres.connections import Connection, rows

CUSTOMERS = 6
TOKEN_SECONDS = 600
BESIDE = PageBeside("/shop", str(YOU))
RUN_OUT_SECONDS = 3.0

# What each button does: the statement, and what it is given beside the customer.
ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "spend": ("spend", {"amount": 5}),
    "buy": ("buy_pack", {"membership": "Pack S", "credits": PACKS["Pack S"]}),
    "renew": ("renew", {}),
    "expire": ("run_out", {"seconds": RUN_OUT_SECONDS}),
}


class Shop:
    """The page /shop and what it asks for. It knows nothing of creditsd but the secret that both verify tokens with."""

    def __init__(self, connection: Connection, people: Sequence[Person], jwt_secret: str) -> None:
        self._connection = connection
        self._customers = {str(person.user_id): person for person in people[:CUSTOMERS]}
        self._jwt_secret = jwt_secret

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Contribute the page, and what its buttons do."""
        return [
            *StaticFiles(Path(__file__).with_name("shop"), at=BESIDE.page).routes(),
            web.get("/demo/customers", self._list),
            web.post("/demo/token", self._sign_in),
            *(web.post(f"/demo/{act}", self._act) for act in ACTS),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        return answer(encode([{"user_id": user_id, "name": each.name} for user_id, each in self._customers.items()]))

    async def _sign_in(self, request: web.Request) -> web.Response:
        claims = {"sub": await self._customer(request), "exp": int(time.time()) + TOKEN_SECONDS}
        return answer(encode({"token": jwt.encode(claims, self._jwt_secret, algorithm="HS256")}))

    async def _act(self, request: web.Request) -> web.Response:
        user_id = await self._customer(request)
        statement, values = ACTS[request.path.rpartition("/")[2]]
        found = await rows(self._connection, sql_files.sql(f"demo/{statement}"), {"user_id": user_id, **values})
        return answer(encode({"done": bool(found), "seconds": values.get("seconds")}))

    async def _customer(self, request: web.Request) -> str:
        """Say whose turn it is. Other sites may not press: a browser tells where a page comes from."""
        foreign = request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
        if foreign or request.content_type != "application/json":
            raise RequestRefused(403, "these buttons are the shop's own")
        try:
            user_id = orjson.loads(await request.read())["user_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            user_id = None
        if user_id not in self._customers:
            raise RequestRefused(400, "nobody of this id shops here")
        return str(user_id)
