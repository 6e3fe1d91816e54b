"""Tansu, a broker that speaks Kafka's protocol, started for real; it knows no idempotent producers."""

from __future__ import annotations

import json
import stat
import subprocess
import tempfile
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.workshop import free_port, freeze, kafka_program


class Broker:
    """One broker in memory on a port of its own: what it held is gone when it stops."""

    def __init__(self, advertised_port: int | None = None) -> None:
        self._binary = kafka_program()
        self.port = free_port()
        self._advertised_port = advertised_port or self.port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._binary.chmod(self._binary.stat().st_mode | stat.S_IXUSR)  # an installer may have dropped it
        listener, advertised = f"tcp://127.0.0.1:{self.port}", f"tcp://127.0.0.1:{self._advertised_port}"
        self._process = subprocess.Popen(
            [self._binary, "broker", "--listener-url", listener, "--advertised-listener-url", advertised],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tempfile.gettempdir(),
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if line.startswith("ready"):
                return
        self.stop()
        raise RuntimeError("".join(said))

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # also ends one that is stopped
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def hang(self) -> None:
        assert self._process is not None
        freeze(self._process)

    async def records(self, topic: str = "credits") -> list[tuple[int, str, dict[str, Any]]]:
        """Read all there is: partition, key and document of each record, in the order of each partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{self.port}", enable_auto_commit=False)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, each) for each in sorted(consumer.partitions_for_topic(topic) or ())]
            if not partitions:
                await consumer._client.add_topic(topic)
                partitions = [TopicPartition(topic, i) for i in sorted(consumer.partitions_for_topic(topic) or ())]
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            left = sum(ends.values())
            found: list[Any] = []
            while len(found) < left:
                for batch in (await consumer.getmany(timeout_ms=5000)).values():
                    found += batch
            return [(each.partition, each.key.decode(), json.loads(each.value, parse_float=Decimal)) for each in found]
        except UnknownTopicOrPartitionError:
            return []
        finally:
            await consumer.stop()


class KafkaHarness:
    """The consumer keeps the higher version, as docs/sinks.md asks of it."""

    def __init__(self) -> None:
        self._broker = Broker()
        self.secrets: list[str] = []

    async def start(self) -> None:
        self._broker.start()

    async def stop(self) -> None:
        self._broker.stop()

    def make(self) -> Sink:
        return make(SinkSettings(name="log", url=self._broker.url, options={"idempotence": False}))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        mine = [document for _, key, document in await self._broker.records() if key == user_id]
        return max(mine, key=lambda document: int(document["version"]), default=None)

    async def go_away(self) -> None:
        self._broker.stop()

    async def come_back(self) -> None:
        self._broker.start()

    async def hang(self) -> None:
        self._broker.hang()


def build() -> KafkaHarness:
    return KafkaHarness()
