from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.conftest import eventually
from tests.sinks.valkey import Valkey
from tests.workshop import free_port, redis_program

PASSWORD = "s3cr3t/pass:word@x"
SENTINEL_PASSWORD = "s3ntinel-secret"


class Watched:
    """A real primary, a replica if wanted, and one sentinel that watches them."""

    def __init__(self, password: str = "", sentinel_password: str = "", *, replica: bool = False) -> None:
        self.password, self._sentinel_password = password, sentinel_password
        self._directory = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        login = ["--masterauth", password] if password else []
        self.primary = Valkey(password, "--dir", str(self._directory), *login)
        following = ["--replicaof", "127.0.0.1", str(self.primary.port), "--dir", str(self._directory)]
        self.replica = Valkey(password, *following, *login) if replica else None

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis+sentinel://{login}127.0.0.1:1,127.0.0.1:{self.port}/mymaster/0"

    async def start(self) -> None:
        for server in filter(None, (self.primary, self.replica)):
            await asyncio.to_thread(server.start)
        if self.replica is not None:
            await eventually(self._replicated)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self._directory}"',
            f"sentinel monitor mymaster 127.0.0.1 {self.primary.port} 1",
            "sentinel down-after-milliseconds mymaster 500",
            "sentinel failover-timeout mymaster 3000",
        ]
        if self.password:
            lines.append(f'sentinel auth-pass mymaster "{self.password}"')
        if self._sentinel_password:
            lines.append(f'requirepass "{self._sentinel_password}"')
        file = self._directory / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        self._process = self._sentinel(file)
        await eventually(self._watching)

    def _sentinel(self, file: Path) -> subprocess.Popen[bytes]:
        nowhere = subprocess.DEVNULL
        return subprocess.Popen([redis_program(), file, "--sentinel"], stdout=nowhere, stderr=nowhere)

    async def _replicated(self) -> bool:
        return bool(self.primary.client().info("replication")["connected_slaves"] == 1)

    async def _watching(self) -> bool:
        """The sentinel answers, sees its primary, and knows of the replica if there is one."""
        client = redis.Redis(port=self.port, password=self._sentinel_password or None, protocol=2)
        try:
            seen: Any = client.sentinel_master("mymaster")
            return bool(not seen["is_sdown"] and seen["num-slaves"] == (self.replica is not None))
        except redis.RedisError:
            return False
        finally:
            client.close()

    def go_away(self) -> None:
        for server in filter(None, (self.primary, self.replica)):
            server.stop()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.go_away()
        shutil.rmtree(self._directory, ignore_errors=True)


class RedisSentinelHarness:
    def __init__(self) -> None:
        self._watched = Watched(PASSWORD, SENTINEL_PASSWORD)
        self.secrets = [PASSWORD, "s3cr3t", SENTINEL_PASSWORD]

    async def start(self) -> None:
        await self._watched.start()

    async def stop(self) -> None:
        self._watched.stop()

    def make(self) -> Sink:
        options = {"sentinel_password": SENTINEL_PASSWORD}
        return make(SinkSettings(name="cache", url=self._watched.url, options=options))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        found = self._watched.primary.client().get(f"credits:{user_id}")
        return None if found is None else json.loads(str(found), parse_float=Decimal)

    async def go_away(self) -> None:
        self._watched.go_away()

    async def come_back(self) -> None:
        await self._watched.start()

    async def hang(self) -> None:
        self._watched.primary.hang()


def build() -> RedisSentinelHarness:
    return RedisSentinelHarness()
