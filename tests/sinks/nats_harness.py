from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nats
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from creditsd.brokers.nats import encode_user
from creditsd.config.settings import SinkSettings
from creditsd.sinks import Sink, make
from tests.workshop import free_port, freeze, nats_program

PASSWORD = "s3cr3t/pass:word@x"


class NatsServer:
    """A real nats-server with JetStream on a port of its own, every file of its in a directory of its own."""

    def __init__(self, configuration: str = "", *, jetstream: bool = True, password: str = "") -> None:
        self._binary = nats_program()
        self.port = free_port()
        self.password = password
        self._configuration = configuration
        self._jetstream = jetstream
        self._process: subprocess.Popen[str] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix="nats-"))

    @property
    def url(self) -> str:
        login = f"app:{quote(self.password, safe='')}@" if self.password else ""
        return f"nats://{login}127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        lines = [f"listen: 127.0.0.1:{self.port}", self._configuration]
        if self._jetstream:
            lines.append(f"jetstream {{ store_dir: {json.dumps(str(self.directory / 'js'))} }}")
        if self.password:
            lines.append(f"authorization {{ user: app, password: {json.dumps(self.password)} }}")
        file = self.directory / "nats.conf"
        file.write_text("\n".join(lines))
        self._process = subprocess.Popen([self._binary, "-c", file], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if "Server is ready" in line:
                return
        self._end()
        raise RuntimeError("".join(said))

    def stop(self) -> None:
        """End for good, and leave nothing behind."""
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def go_away(self) -> None:
        self._end()

    def hang(self) -> None:
        assert self._process is not None
        freeze(self._process)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # also ends one that is stopped
            self._process.wait()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    @contextlib.asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        login = {"user": "app", "password": self.password} if self.password else {}
        client = await nats.connect(f"127.0.0.1:{self.port}", allow_reconnect=False, **login)
        try:
            yield client.jetstream()
        finally:
            await client.close()


async def last(server: NatsServer, stream: str, subject: str) -> dict[str, Any] | None:
    async with server.jetstream() as jetstream:
        try:
            message = await jetstream.get_last_msg(stream, subject)
        except NotFoundError:
            return None
        return dict(json.loads(message.data or b"", parse_float=Decimal))


class NatsHarness:
    """The stream keeps the rule itself: its last message of a user is the newest total."""

    def __init__(self) -> None:
        self._server = NatsServer(password=PASSWORD)
        self.secrets = [PASSWORD, "s3cr3t"]

    async def start(self) -> None:
        self._server.start()

    async def stop(self) -> None:
        self._server.stop()

    def make(self) -> Sink:
        return make(SinkSettings(name="events", url=self._server.url))

    async def received(self, user_id: str) -> dict[str, Any] | None:
        return await last(self._server, "CREDITS", f"credits.{encode_user(user_id)}")

    async def go_away(self) -> None:
        self._server.go_away()

    async def come_back(self) -> None:
        self._server.start()

    async def hang(self) -> None:
        self._server.hang()


def build() -> NatsHarness:
    return NatsHarness()
