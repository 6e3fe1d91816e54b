"""The installed creditsd, run as a person would run it: one process, configured by its environment."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import psycopg
import redis

from tests.servers import Valkey, free_port

COMMAND = Path(os.environ.get("CREDITSD", Path(sys.executable).with_name("creditsd")))
"""What is measured: CREDITSD may name another installed one, as of the image's libraries alone."""


def installed() -> bool:
    """Tell whether there is a creditsd that can run."""
    if not COMMAND.exists():
        return False
    return subprocess.run([COMMAND, "run", "--help"], check=False, capture_output=True).returncode == 0


class Line:
    """A database with creditsd installed in it, a Valkey, and the daemon between them when it is started."""

    def __init__(self, dsn: str, valkey: Valkey, *, sinks: str = "", **settings: str) -> None:
        self.dsn, self.valkey = dsn, valkey
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = valkey.home / f"creditsd-{self._port}.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CREDITSD_")},
            "CREDITSD_DSN": dsn,
            "CREDITSD_SINKS": sinks or valkey.url,
            "CREDITSD_HTTP__LISTEN": f"127.0.0.1:{self._port}",
            "CREDITSD_LOG__LEVEL": "warning",
            **{f"CREDITSD_{name.upper()}": value for name, value in settings.items()},
        }

    def install(self) -> None:
        """Run `creditsd install`."""
        self.run("install")

    def run(self, *args: str) -> str:
        """Run a command of creditsd to its end and return what it printed."""
        done = subprocess.run([COMMAND, *args], check=False, capture_output=True, text=True, env=self._environment)
        if done.returncode != 0:
            raise RuntimeError(f"creditsd {' '.join(args)} exited with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def start(self) -> Self:
        """Start the daemon, and return at once."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, "run"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask the daemon to end, and wait for it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise RuntimeError(f"creditsd did not stop:\n{self.log()}") from None

    def wait_until_ready(self, seconds: float = 300) -> None:
        """Wait until the daemon leads and has backfilled everyone."""
        for _ in self._moments(seconds):
            if self.ready():
                return

    def ready(self) -> bool:
        """Tell whether it leads and has backfilled everyone."""
        with contextlib.suppress(OSError):  # not listening yet, or not ready: 503
            urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=5).close()
            return True
        return False

    def wait_until_caught_up(self, seconds: float = 120) -> float:
        """Change one row and wait until its total is in Valkey; return the seconds it took.

        Changes are read in the order of their transactions, so what was committed before is there as well.
        """
        amount = random.randint(2_000, 1_000_000)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute(
                "UPDATE public.user_credits SET credits = %s WHERE id = 1 RETURNING user_id", (amount,)
            ).fetchone()
            assert row is not None
            rest = connection.execute("SELECT sum(credits) FROM public.user_credits WHERE user_id = %s", row).fetchone()
            assert rest is not None
        begun = time.perf_counter()
        with redis.Redis(host=self.valkey.host, port=self.valkey.port) as client:
            for _ in self._moments(seconds):
                document = client.get(f"credits:{row[0]}")
                if isinstance(document, bytes) and orjson.loads(document)["credits"] == rest[0]:
                    break
        return time.perf_counter() - begun

    def memory_mib(self, what: str = "VmHWM") -> float:
        """Return the daemon's resident memory: the most it ever had (VmHWM), or has now (VmRSS)."""
        assert self._process is not None
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) / 1024
        raise RuntimeError("creditsd is gone")

    def processor_seconds(self) -> float:
        """Return the processor time the daemon has used so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """Return the end of what the daemon has logged."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""

    def _moments(self, seconds: float) -> Iterator[None]:
        """Come round every few milliseconds while the daemon lives, and fail after so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"creditsd ended:\n{self.log()}")
            yield
            time.sleep(0.01)
        raise RuntimeError(f"creditsd was not there after {seconds} s:\n{self.log()}")
