from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.sinks import Sink, make
from tests.sinks.harness import VERSION, total
from tests.sinks.kafka_harness import Broker


@pytest.fixture
def broker() -> Iterator[Broker]:
    server = Broker()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Sink]:
    sink = make(SinkSettings(name="log", url=url, options={"idempotence": False} | options))
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


async def test_all_totals_of_a_user_are_in_one_partition_in_the_order_delivered(broker: Broker) -> None:
    async with opened(broker.url) as sink:
        for step in range(3):
            await sink.deliver([total(f"u{i}", VERSION + step) for i in range(50)])
    records = await broker.records()
    assert len({partition for partition, _, _ in records}) > 1
    for i in range(50):
        mine = [(partition, document["version"]) for partition, key, document in records if key == f"u{i}"]
        assert mine == [(mine[0][0], VERSION + step) for step in range(3)]


async def test_a_repeated_delivery_is_appended_again_with_the_same_version(broker: Broker) -> None:
    async with opened(broker.url) as sink:
        await sink.deliver([total()])
        await sink.deliver([total()])
    assert [document["version"] for _, _, document in await broker.records()] == [VERSION, VERSION]


async def test_the_topic_is_an_option(broker: Broker) -> None:
    async with opened(broker.url, topic="balances") as sink:
        await sink.deliver([total()])
    assert [key for _, key, _ in await broker.records("balances")] == ["u1"]


async def test_compressed_totals_arrive(broker: Broker) -> None:
    async with opened(broker.url, compression="gzip") as sink:
        await sink.deliver([total(f"u{i}") for i in range(100)])
    assert len(await broker.records()) == 100


async def test_what_is_too_large_is_refused_and_others_pass(broker: Broker) -> None:
    async with opened(broker.url, max_request_bytes=4000) as sink:
        large = total(membership="x" * 5000)
        (refused,) = await sink.deliver([large, total("u2")])
        assert refused.total == large
        assert "larger" in refused.reason
    assert [key for _, key, _ in await broker.records()] == ["u2"]


async def test_a_broker_without_idempotent_producers_is_told_and_not_waited_for(broker: Broker) -> None:
    with pytest.raises(SinkUnavailable, match="sink log: "):
        async with opened(broker.url, idempotence=True, timeout_seconds=2):
            pass


async def test_nobody_there_is_told_with_the_mend() -> None:
    with pytest.raises(SinkUnavailable, match=r"sink log: 127\.0\.0\.1:1: topic credits: cannot be reached"):
        async with opened("kafka://127.0.0.1:1"):
            pass


async def test_a_broker_that_does_not_answer_is_given_up_in_time(broker: Broker) -> None:
    async with opened(broker.url, timeout_seconds=2) as sink:
        broker.hang()
        async with asyncio.timeout(60):
            with pytest.raises(SinkUnavailable, match="no answer in time"):
                await sink.deliver([total()])


async def test_a_login_is_not_told_when_the_broker_does_not_take_it(broker: Broker) -> None:
    with pytest.raises(SinkUnavailable) as failure:
        async with opened(broker.url.replace("kafka://", "kafka+sasl://app:hunter2@"), timeout_seconds=1):
            pass
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("kafka+tls://h", {}, "use kafka, kafka+ssl, kafka+sasl, kafka+sasl+ssl"),
        ("kafka://h:port", {}, "the url is not kafka://host"),
        ("kafka://a:hunter2@h", {}, "a login needs kafka+sasl"),
        ("kafka+sasl://h", {}, "the url is not kafka+sasl://user:password@host"),
        ("kafka+ssl://h", {"ca": "hunter2"}, "ca is not a certificate"),
        ("kafka://h", {"topic": "a b"}, "topic: "),
        ("kafka://h", {"topik": "a"}, "did you mean topic?"),
        ("kafka+sasl://a:hunter2@h", {"sasl_mechanism": "hunter2"}, "sasl_mechanism: "),
    ],
)
def test_a_wrong_setting_is_one_line_without_secrets(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as failure:
        make(SinkSettings(name="log", url=url, options=options))
    assert says in str(failure.value)
    assert "hunter" not in str(failure.value)
    assert "\n" not in str(failure.value)
