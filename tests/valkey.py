"""Real Valkey and Redis servers for tests and benchmarks, private to the process that starts them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from typing import Self

from tests.workshop import ServerError, free_port, redis_program, workshop


class Valkey:
    """A server of our own, Valkey or Redis, on 127.0.0.1, keeping nothing on disk unless told otherwise."""

    def __init__(self, *options: str) -> None:
        self._binary = redis_program()
        self._options = options
        self.home = workshop().place("valkey", None)
        self._process: subprocess.Popen[bytes] | None = None
        self.host, self.port = "127.0.0.1", free_port()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        """The address of database 0, as a sink is given it."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and return when it answers."""
        command = [str(self._binary), "--port", str(self.port), "--bind", self.host, "--dir", str(self.home)]
        command += ["--pidfile", str(self.home / "server.pid"), "--daemonize", "no", "--save", "", *self._options]
        with (self.home / "log").open("ab") as log:
            null = subprocess.DEVNULL
            self._process = subprocess.Popen(
                command, stdin=null, stdout=log, stderr=log, cwd=self.home, start_new_session=True
            )
        # Valkey writes a pid file only when it daemonises; the reaper needs one.
        (self.home / "server.pid").write_text(f"{self._process.pid}\n")
        workshop().opened(self)
        deadline = time.monotonic() + 30
        while self._command(b"PING") != b"+PONG\r\n":
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"Valkey did not start:\n{(self.home / 'log').read_text()[-3000:]}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop the server in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop the server at once."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start again on the same port, empty unless an option made it keep its data."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Delete every key of every database."""
        self._command(b"FLUSHALL")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)
            self._process = None

    def _command(self, line: bytes) -> bytes:
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as link:
                link.sendall(line + b"\r\n")
                return link.recv(100)
        except OSError:
            return b""
