"""What we use of libraries beyond their documented interface: it is there, and the library is held below a bound."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nats.aio.client
import pytest
from aiohttp import http_exceptions, web
from aiokafka import AIOKafkaProducer
from packaging.requirements import Requirement
from psycopg import AsyncConnection, errors
from psycopg.adapt import Transformer
from psycopg.postgres import types
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.composite import RecordBinaryLoader
from redis.asyncio.connection import AbstractConnection, ConnectionPool

from tests.conftest import Database, eventually
from tests.servers import Valkey

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
LINES = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]


@pytest.mark.parametrize("name", ["aiohttp", "aiokafka", "nats-py", "psycopg", "redis"])
def test_a_library_whose_private_parts_are_used_stays_below_a_bound(name: str) -> None:
    mine = [each for each in map(Requirement, LINES) if each.name == name and each.specifier]
    assert mine
    for each in mine:
        assert any(bound.operator == "<" for bound in each.specifier), f"{each} has no upper bound"


def takes(call: Callable[..., Any], *args: str, **kwargs: str) -> bool:
    """Whether it can be called so."""
    try:
        inspect.signature(call).bind("self", *args, **kwargs)
    except TypeError:
        return False
    return True


async def test_psycopg_gives_up_a_query_by_a_method_that_a_connection_may_have_of_its_own(database18: Database) -> None:
    class Connection(AsyncConnection[TupleRow]):
        given_up = 0

        async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ARG002, ASYNC109  the driver's signature
            Connection.given_up += 1
            self.pgconn.finish()

    connection = await Connection.connect(database18.dsn, autocommit=True)
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))

    async def runs() -> bool:
        return connection.info.transaction_status == TransactionStatus.ACTIVE

    await eventually(runs)
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await query
    assert (Connection.given_up, connection.closed) == (1, True)
    database18.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")


def test_psycopg_reads_a_record_from_its_bytes_without_a_query() -> None:
    number = types["int4"].oid.to_bytes(4, "big") + (4).to_bytes(4, "big") + (7).to_bytes(4, "big")
    nothing = types["text"].oid.to_bytes(4, "big") + (-1).to_bytes(4, "big", signed=True)
    record = (2).to_bytes(4, "big") + number + nothing
    assert RecordBinaryLoader(types["record"].oid).load(record) == (7, None)


async def test_psycopg_lets_a_result_be_read_and_an_error_be_made_of_what_libpq_has_returned(
    database18: Database,
) -> None:
    connection = await AsyncConnection.connect(database18.dsn, autocommit=True)
    try:
        assert isinstance(connection.lock, asyncio.Lock)
        reader = Transformer(connection)
        reader.set_pgresult(connection.pgconn.exec_params(b"SELECT 7, 'seven'", None, result_format=1))
        assert reader.load_rows(0, 1, tuple) == [(7, "seven")]
        failed = connection.pgconn.exec_(b"SELECT 1 / 0")
        assert isinstance(errors.error_from_result(failed, encoding="utf-8"), errors.DivisionByZero)
    finally:
        await connection.close()


def test_redis_lends_a_connection_on_which_commands_are_written_before_answers_are_read() -> None:
    assert takes(ConnectionPool.get_connection)
    assert takes(ConnectionPool.release, "connection")
    assert takes(AbstractConnection.send_packed_command, "command")
    assert takes(AbstractConnection.read_response)
    assert takes(AbstractConnection.disconnect, nowait="True")


async def test_redis_has_a_connection_whose_streams_can_be_looked_at_and_written_to(valkey: Valkey) -> None:
    pool: Any = ConnectionPool.from_url(valkey.url)
    connection: Any = await pool.get_connection()
    try:
        assert connection.is_connected
        assert not connection._reader.at_eof()
        assert not connection._writer.is_closing()
        assert connection._writer.transport.get_write_buffer_size() == 0
        connection._writer.write(b"*1\r\n$4\r\nPING\r\n")
        assert await connection.read_response() == b"PONG"
    finally:
        await pool.release(connection)
        await pool.aclose()


async def test_aiokafka_has_a_sender_that_can_be_closed_and_batches_that_can_be_failed() -> None:
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:9")
    try:
        assert inspect.iscoroutinefunction(producer._sender.close)
        producer._message_accumulator.fail_all(Exception("given up"))
    finally:
        await producer.stop()


def test_nats_keeps_what_the_server_said_of_itself() -> None:
    assert nats.aio.client.Client()._server_info == {}


def test_aiohttp_has_a_handler_of_one_connection_that_can_be_extended() -> None:
    wanted = ("loop", "access_log", "keepalive_timeout", "max_line_size", "max_field_size", "max_headers")
    assert takes(web.RequestHandler.__init__, "server", **dict.fromkeys(wanted, ""))
    assert takes(web.RequestHandler.handle_error, "request", status="500", exc="", message="")
    assert takes(web.BaseSite.__init__, "runner", backlog="1")
    assert issubclass(http_exceptions.LineTooLong, http_exceptions.HttpProcessingError)
