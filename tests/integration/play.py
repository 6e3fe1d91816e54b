"""Sessions of an application that write, hold, roll back and prepare at random, a step at a time."""

from __future__ import annotations

import random
from typing import Any

import psycopg
from psycopg import AsyncConnection

from tests.integration.line import user

Session = AsyncConnection[tuple[Any, ...]]

ADD = "INSERT INTO user_credits (user_id, credits, status) VALUES (%s, %s, 'active')"


class Play:
    """What each does next is decided by dice, so a seed tells the whole of it."""

    def __init__(self, seed: int, sessions: list[Session]) -> None:
        self.dice = random.Random(seed)
        self.sessions = sessions
        self.open: set[Session] = set()
        self.prepared: list[str] = []
        self.name = sessions[0].info.dbname
        self.named = 0

    async def step(self) -> None:
        """Let one session do one thing; PostgreSQL may end its transaction for that."""
        session = self.dice.choice(self.sessions)
        try:
            await self._step(session)
        except (psycopg.errors.SerializationFailure, psycopg.errors.FeatureNotSupported):  # who rings cannot prepare
            self.open.discard(session)
            await session.execute("ROLLBACK")

    async def _step(self, session: Session) -> None:
        if session not in self.open:
            if self.prepared and self.dice.random() < 0.3:
                name = self.prepared.pop()
                await session.execute(f"{self.dice.choice(['COMMIT', 'ROLLBACK'])} PREPARED '{name}'".encode())
                return
            isolation = self.dice.choice(["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
            await session.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode())
            self.open.add(session)
        act = self.dice.random()
        if act < 0.4:
            await session.execute(ADD, [user(self.dice.randrange(12)), self.dice.randrange(1, 100)])
        elif act < 0.5:
            await session.execute("SAVEPOINT here")
            await session.execute(ADD, [user(self.dice.randrange(12)), 1])
            await session.execute(self.dice.choice([b"ROLLBACK TO here", b"RELEASE here"]))
        elif act < 0.6:
            await session.execute("SAVEPOINT here")
            try:
                await session.execute(
                    "UPDATE user_credits SET credits = credits + 1, user_id = %s WHERE id = "
                    "(SELECT id FROM user_credits ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)",
                    [user(self.dice.randrange(12))],
                )
            except psycopg.errors.SerializationFailure:
                await session.execute("ROLLBACK TO here")
        else:
            await self.end(session)

    async def end(self, session: Session) -> None:
        self.open.discard(session)
        match self.dice.randrange(6):
            case 0:
                await session.execute("ROLLBACK")
            case 1:
                self.named += 1
                name = f"{self.name} {self.named}"  # unique on the whole server
                await session.execute(f"PREPARE TRANSACTION '{name}'".encode())
                self.prepared.append(name)
            case _:
                await session.execute("COMMIT")

    async def finish(self) -> None:
        for session in list(self.open):
            await session.execute("COMMIT")
        for name in self.prepared:
            await self.sessions[0].execute(f"COMMIT PREPARED '{name}'".encode())
