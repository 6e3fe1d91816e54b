"""What the example application expects of its shop, played on the test's own table: who there is, tokens, purchases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from aiohttp import web

from creditsd.domain.total import encode
from creditsd.http.errors import answer
from tests.conftest import Database
from tests.http.asking import token

AMOUNTS = {"spend": -5, "buy": 100}


class Shop:
    """Signs anybody in who is a customer, and changes what they have."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.customers: dict[str, str] = {}
        """Their names, by id."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Contribute the paths, which are those of `creditsd demo`."""
        return [web.get("/demo/customers", self._list), web.post("/demo/{act}", self._act)]

    async def _list(self, _: web.Request) -> web.Response:
        return answer(encode([{"user_id": user_id, "name": name} for user_id, name in self.customers.items()]))

    async def _act(self, request: web.Request) -> web.Response:
        act, user_id = request.match_info["act"], orjson.loads(await request.read())["user_id"]
        assert user_id in self.customers
        done: dict[str, Any] = {"token": token(user_id)} if act == "token" else {"done": act in AMOUNTS}
        if act in AMOUNTS:
            self._database.run(
                "UPDATE user_credits SET credits = credits + %s WHERE user_id = %s", [AMOUNTS[act], user_id]
            )
        return answer(encode(done))
