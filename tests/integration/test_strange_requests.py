"""Whatever is asked of a daemon, of the operator's page and of history too, is answered as described."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from structlog.testing import capture_logs

from tests.conftest import SERVERS, Database
from tests.http.asking import http
from tests.http.made_up import DESCRIBED, Asked, answered, holds, requests
from tests.integration.line import USER, MemorySink, configured
from tests.integration.running import running, until

OPERATOR = "an operator's key, long enough"
UNLIMITED = {f"requests_per_second_per_{who}": 0 for who in ("address", "caller", "server")}
SINKS = [{"name": "refused", "url": "redis://127.0.0.1:1"}]


# The daemon draws its own numbers meanwhile, on its own thread.
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize("postgres_server", SERVERS[:1], indirect=True)
async def test_whatever_is_asked_of_a_daemon_is_answered_as_described(
    installation: Database, caplog: pytest.LogCaptureFixture
) -> None:
    made = configured(installation, http=http(operator_keys=[OPERATOR], **UNLIMITED), history={"days": 1}, sinks=SINKS)
    installation.run("INSERT INTO user_credits (user_id, credits, status) VALUES (%s, 5, 'active')", [USER])
    async with running(made, MemorySink()) as daemon:
        await until(daemon, "state", "leading")
        assert made.http.address is not None
        loop, port = asyncio.get_running_loop(), made.http.address[1]

        @settings(deadline=None)
        @given(requests(sorted(DESCRIBED.operations), [OPERATOR] * 3))
        @example(Asked("GET", "/page/{name}", b"GET /page/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        def ask(asked: Asked) -> None:
            answer = asyncio.run_coroutine_threadsafe(answered(port, asked), loop).result(90)
            holds(asked, answer, may_fail=(502,))

        with capture_logs() as logs:
            await asyncio.to_thread(ask)
        assert [each for each in logs if each["event"] == "live.failed"] == []
        assert daemon.health()["state"] == "leading"
    assert caplog.records == []
