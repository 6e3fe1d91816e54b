"""A real Valkey or Redis on a port of its own, for the tests of sinks."""

from __future__ import annotations

import subprocess
from typing import Any
from urllib.parse import quote

import redis

from tests.workshop import free_port, freeze, redis_program


class Valkey:
    def __init__(self, password: str = "", *arguments: str) -> None:
        self.password = password
        self._binary = redis_program()
        self.port = free_port()
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._clients: list[redis.Redis] = []

    @property
    def url(self) -> str:
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [str(self._binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        if self.password:
            command += ["--requirepass", self.password]
        self._process = subprocess.Popen(
            [*command, *self._arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        self.stop()
        raise RuntimeError("".join(said))

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()
        if self._process is not None:
            self._process.kill()  # also ends one that is stopped
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def hang(self) -> None:
        assert self._process is not None
        freeze(self._process)

    def client(self) -> Any:
        """A plain client; Any, because its library types a command's answer as all it may be in any mode."""
        client = redis.Redis(
            port=self.port,
            password=self.password or None,
            decode_responses=True,
            protocol=2,
            socket_timeout=10,
        )
        self._clients.append(client)
        return client
