"""What stands in for Supabase: a database with its schema `realtime`, and its endpoint, both as they are published."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import psycopg
from aiohttp import web

from tests.servers import Postgres
from tests.workshop import free_port

# The columns, and the signature of the function, are Realtime's; like there, it turns every failure into a warning, and
# adds an id to a payload that has none. The table has a partition a day there.
SCHEMA = """
CREATE SCHEMA realtime;
CREATE TABLE realtime.messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    topic text NOT NULL,
    extension text NOT NULL,
    payload jsonb,
    event text,
    private boolean DEFAULT false,
    updated_at timestamp NOT NULL DEFAULT now(),
    inserted_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (id, inserted_at)
) PARTITION BY RANGE (inserted_at);
CREATE TABLE realtime.messages_now PARTITION OF realtime.messages FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
ALTER TABLE realtime.messages ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION realtime.topic() RETURNS text LANGUAGE sql STABLE
AS $$ SELECT NULLIF(current_setting('realtime.topic', true), '') $$;

CREATE FUNCTION realtime.send(payload jsonb, event text, topic text, private boolean DEFAULT true)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    made uuid := gen_random_uuid();
BEGIN
    INSERT INTO realtime.messages (id, payload, event, topic, private, extension)
    VALUES (
        made, CASE WHEN payload ? 'id' THEN payload ELSE payload || jsonb_build_object('id', made) END,
        event, topic, private, 'broadcast'
    );
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'WarnSendingBroadcastMessage: %', SQLERRM;
END $$;
"""

_numbers = itertools.count(1)


@functools.cache
def server() -> Postgres:
    """The one server of this process, which the workshop stops; a database of it takes a tenth of its start."""
    return Postgres().start()


class Project:
    """A database as Supabase makes it."""

    def __init__(self) -> None:
        self.name = f"realtime_{next(_numbers)}"
        self.dsn = server().create_database(self.name)
        self.run(SCHEMA)

    def run(self, query: str, values: Any = None) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description is not None else []

    def forget(self) -> None:
        self.run("DELETE FROM realtime.messages")

    def messages(self, topic: str) -> list[dict[str, Any]]:
        """The payloads that a subscriber of a private topic is sent."""
        found = self.run(
            "SELECT payload::text FROM realtime.messages WHERE topic = %s AND private AND event = 'credits.updated' "
            "AND extension = 'broadcast' ORDER BY inserted_at",
            [topic],
        )
        return [dict(json.loads(text, parse_float=Decimal)) for (text,) in found]

    def remove(self) -> None:
        server().drop_database(self.name)


@functools.cache
def project() -> Project:
    """The one whose schema nobody alters: a database costs more than a test."""
    return Project()


@dataclass
class Endpoint:
    """POST /realtime/v1/api/broadcast, with the checks of the original and its statuses, in its order."""

    key: str
    messages_per_second: int = 1_000_000
    max_payload_bytes: int = 256_000
    requests: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    hanging: bool = False
    busy_for: str = ""
    failing: web.Response | None = None
    _runner: web.AppRunner | None = None
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self._ending.clear()
        app = web.Application()
        app.router.add_post("/realtime/v1/api/broadcast", self._broadcast)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        self._ending.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _broadcast(self, request: web.Request) -> web.StreamResponse:
        if self.hanging:
            await self._ending.wait()
        if self.failing is not None:
            return web.Response(status=self.failing.status, text=self.failing.text, headers=self.failing.headers)
        if request.headers.get("apikey") != self.key:
            return web.json_response({"message": "Unauthorized"}, status=401)
        document = await request.json(loads=lambda text: json.loads(text, parse_float=Decimal))
        self.requests.append(document)
        messages = document["messages"]
        wrong = [self._wrong(message) for message in messages]
        if any(wrong):
            return web.json_response({"errors": {"messages": wrong}}, status=422)
        if len(messages) > self.messages_per_second or any(each["topic"] == self.busy_for for each in messages):
            said = "Too many messages to broadcast, please reduce the batch size"
            return web.json_response({"message": said}, status=429)
        self.messages += messages
        return web.Response(status=202)

    def _wrong(self, message: dict[str, Any]) -> dict[str, list[str]]:
        wrong = {key: ["can't be blank"] for key in ("topic", "payload", "event") if not message.get(key)}
        if len(json.dumps(message.get("payload"), default=str)) > self.max_payload_bytes:
            wrong["payload"] = ["Payload size exceeds tenant limit"]
        return wrong
