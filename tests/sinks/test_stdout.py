from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from creditsd.config.settings import SinkSettings
from creditsd.domain.errors import ConfigError, SinkUnavailable
from creditsd.domain.total import Total
from creditsd.sinks import make
from creditsd.sinks.stdout import StdoutSink
from tests.sinks.harness import VERSION, total

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys
from creditsd.domain.total import Total
from creditsd.config.settings import SinkSettings
from creditsd.sinks import make
from tests.sinks.harness import total

async def main():
    sink = make(SinkSettings(name="lines", url="stdout:"))
    await sink.open()
    sending = asyncio.create_task(sink.deliver([total(f"u{i}") for i in range(int(sys.argv[1]))]))
    done, _ = await asyncio.wait([sending], timeout=float(sys.argv[2]))
    print("done" if done else "stuck", file=sys.stderr)
    sending.cancel()
    await asyncio.wait([sending])
    await sink.close()

asyncio.run(main())
"""


async def test_one_line_per_total_and_nothing_else(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        sink = StdoutSink("lines", out.fileno())
        await sink.open()
        await sink.deliver([total("a"), total("b", VERSION + 1)])
        lines = (tmp_path / "out").read_bytes().splitlines()
        await sink.close()
    assert lines == [total("a").json(), total("b", VERSION + 1).json()]


async def test_a_closed_reader_is_told_and_the_process_lives() -> None:
    read, write = os.pipe()
    os.close(read)
    sink = StdoutSink("lines", write)
    await sink.open()
    with pytest.raises(SinkUnavailable, match="sink lines: cannot write to stdout: Broken pipe"):
        await sink.deliver([total(f"u{i}") for i in range(1000)])
    await sink.close()
    os.close(write)


async def test_batches_never_mix_even_after_one_was_given_up() -> None:
    read, write = os.pipe()
    sink = StdoutSink("lines", write)
    await sink.open()
    big = [total(f"u{i}") for i in range(1000)]  # more than a pipe holds
    first = asyncio.create_task(_deliver(sink, big))
    await asyncio.wait([first], timeout=0.05)
    first.cancel()
    second = asyncio.create_task(_deliver(sink, [total("last", VERSION + 1)]))
    await asyncio.wait([first])
    lines = await asyncio.to_thread(_read_lines, read, 1001)
    await second
    await sink.close()
    os.close(write)
    assert [json.loads(line)["user_id"] for line in lines] == [each.user_id for each in big] + ["last"]


@pytest.mark.parametrize(("totals", "patience_seconds", "says"), [(10, 60, "done"), (5000, 0.5, "stuck")])
def test_a_reader_that_stopped_does_not_hold_the_process_at_its_end(
    totals: int, patience_seconds: float, says: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(totals), str(patience_seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.wait(timeout=patience_seconds + 20) == 0  # and nobody has read yet
        out, err = process.communicate()
        assert err.decode().split() == [says]
        assert out.startswith(total("u0").json())
    finally:
        process.kill()
        process.wait()


def test_it_has_no_options() -> None:
    with pytest.raises(ConfigError, match="unknown option 'path': known: none"):
        make(SinkSettings(name="lines", url="stdout:", options={"path": "x"}))


def _read_lines(descriptor: int, count: int) -> list[bytes]:
    with open(descriptor, "rb") as reader:
        return [reader.readline() for _ in range(count)]


async def _deliver(sink: StdoutSink, totals: list[Total]) -> None:
    await sink.deliver(totals)
