from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis.cluster import RedisCluster

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.conftest import eventually
from tests.sinks.valkey import Valkey
from tests.workshop import free_port

PASSWORD = "s3cr3t/pass:word@x"
SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


class Cluster:
    """Three real nodes that share the slots, every file of theirs in a directory of their own."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        self.directory = Path(tempfile.mkdtemp(prefix="cluster-"))
        self.nodes = [self._node(i, password) for i in range(len(SLOTS))]

    def _node(self, i: int, password: str) -> Valkey:
        home = self.directory / str(i)
        home.mkdir()
        arguments = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        arguments += ["--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000"]
        arguments += ["--dir", str(home), "--appendonly", "yes"]
        return Valkey(password, *arguments, *(["--masterauth", password] if password else []))

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis+cluster://{login}{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    async def start(self) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.start)
        first, *others = self.nodes
        if first.client().cluster("info")["cluster_slots_assigned"] == "0":
            for node, (low, high) in zip(self.nodes, SLOTS, strict=True):
                node.client().execute_command("CLUSTER ADDSLOTSRANGE", low, high)
            for node in others:
                bus = node.client().config_get("cluster-port")["cluster-port"]
                first.client().execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        await self.joined()

    async def joined(self) -> None:
        """Wait until every node says that all slots are served."""
        await eventually(self._whole)

    async def _whole(self) -> bool:
        states = [node.client().cluster("info") for node in self.nodes]
        return all(each["cluster_state"] == "ok" and each["cluster_known_nodes"] == "3" for each in states)

    def go_away(self) -> None:
        for node in self.nodes:
            node.stop()

    def stop(self) -> None:
        self.go_away()
        shutil.rmtree(self.directory, ignore_errors=True)

    def client(self) -> Any:
        return RedisCluster(
            host="127.0.0.1",
            port=self.nodes[0].port,
            password=self.password or None,
            decode_responses=True,
            protocol=2,
        )


class RedisClusterHarness:
    def __init__(self) -> None:
        self._cluster = Cluster(PASSWORD)
        self.secrets = [PASSWORD, "s3cr3t"]

    async def start(self) -> None:
        await self._cluster.start()

    async def stop(self) -> None:
        self._cluster.stop()

    def make(self) -> Sink:
        return make(SinkSettings(name="cache", url=self._cluster.url))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        with self._cluster.client() as client:
            found = client.get(f"credits:{user_id}")
        return None if found is None else json.loads(str(found), parse_float=Decimal)

    async def go_away(self) -> None:
        self._cluster.go_away()

    async def come_back(self) -> None:
        await self._cluster.start()

    async def hang(self) -> None:
        for node in self._cluster.nodes:
            node.hang()


def build() -> RedisClusterHarness:
    return RedisClusterHarness()
