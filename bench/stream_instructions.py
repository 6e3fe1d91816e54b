"""Instructions of a stream: of opening one, and of a message to it, beside those of aiohttp alone.

Run as `python -m bench.stream_instructions`. Both servers run under callgrind, fed by a Valkey into which totals are
published here, and dump what they have counted when the streams are open, and after some totals to each and after some
more: a message is the difference of these two. What the kernel does is not counted. Needs valgrind.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis

from bench.line import COMMAND
from bench.streams import CREDITSD, FLOOR, KEY, Readers, readers
from bench.webhooks import total
from tests.servers import Valkey, free_port

STREAMS = 200
ROUNDS = 10  # of totals to each
COUNTED = re.compile(r"^(?:totals|summary): (\d+)$", re.MULTILINE)
GATEWAY = {
    "CREDITSD_HTTP__API_KEYS": KEY,
    "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_ADDRESS": "0",
    "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_CALLER": "0",
    "CREDITSD_HTTP__REQUESTS_PER_SECOND_PER_SERVER": "0",
    "CREDITSD_HTTP__HEARTBEAT_SECONDS": "600",
    "CREDITSD_SERVE__SWEEP_SECONDS": "3600",
    "CREDITSD_LOG__LEVEL": "warning",
}


class Counting:
    """A process under callgrind."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process = process
        self._out = out

    def instructions(self) -> int:
        """Return the instructions since the last time, or since the start."""
        before = set(self._out.parent.iterdir())
        self._control("--dump")
        (dump,) = set(self._out.parent.iterdir()) - before
        return int(COUNTED.findall(dump.read_text())[-1])

    def begin(self) -> None:
        """Begin to count: what starts until then starts sooner."""
        self._control("--instr=on")

    def _control(self, what: str) -> None:
        subprocess.run(["callgrind_control", what, str(self._process.pid)], check=True, capture_output=True)


class Told:
    """Publishes totals of everyone, each time with more credits."""

    def __init__(self, valkey: Valkey, users: list[str]) -> None:
        self._client = redis.Redis(host=valkey.host, port=valkey.port)
        self._users = users
        self._number = 0

    def everyone(self) -> list[int]:
        """Publish a new total of everyone in one go; return their credits."""
        pipeline, told = self._client.pipeline(transaction=False), []
        for user in self._users:
            self._number += 1
            document = total(self._number)._replace(user_id=user).json()
            pipeline.set(f"credits:{user}", document)
            pipeline.publish(f"credits:{user}", document)
            told.append(self._number)
        pipeline.execute()
        return told


def measure(contender: str, valkey: Valkey, users: list[str]) -> Mapping[str, int]:
    """Return the instructions of opening a stream, and of a message."""
    told = Told(valkey, users)
    told.everyone()
    with counting(contender, valkey) as (server, port):
        with readers(port, users[:1]):
            server.begin()
        with readers(port, users) as ends:
            opened = server.instructions()
            rounds(told, ends, 1)
            server.instructions()
            rounds(told, ends, 1)
            few = server.instructions()
            rounds(told, ends, ROUNDS + 1)
            many = server.instructions()
    return {"opening": opened // len(users), "a message": (many - few) // (ROUNDS * len(users))}


def rounds(told: Told, ends: Readers, number: int) -> None:
    """Tell everyone so often, and wait each time until everyone has heard."""
    for _ in range(number):
        ends.until({each: time.perf_counter() for each in told.everyone()}, 120)


@contextlib.contextmanager
def counting(contender: str, valkey: Valkey) -> Iterator[tuple[Counting, int]]:
    """Run a contender under callgrind."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("CREDITSD_")} | GATEWAY
    env |= {"CREDITSD_SERVE__FEED": valkey.url, "CREDITSD_HTTP__LISTEN": f"127.0.0.1:{port}"}
    command = ["-m", "bench.bare", str(port), valkey.url] if contender == FLOOR else [str(COMMAND), "serve"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        whole = [*valgrind, sys.executable, *command]
        with subprocess.Popen(whole, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                _wait_until_it_listens(port)
                yield Counting(process, out), port
            finally:
                process.kill()


def _wait_until_it_listens(port: int, seconds: float = 900) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60).close()
        except urllib.error.HTTPError as refused:
            if refused.code == 404:  # the floor knows no such page
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.1)
    raise RuntimeError("it did not listen in time")


def main() -> None:
    users = [str(uuid.UUID(int=number)) for number in range(1, STREAMS + 1)]
    with Valkey() as valkey:
        found = {name: measure(name, valkey, users) for name in (FLOOR, CREDITSD)}
    for what, floor in found[FLOOR].items():
        mine = found[CREDITSD][what]
        print(f"{what}: {FLOOR} {floor}, {CREDITSD} {mine}, ratio {mine / floor:.2f}")


if __name__ == "__main__":
    main()
