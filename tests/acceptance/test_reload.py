"""SIGHUP, sent to the installed command: settings and secrets are read anew, and nothing else ends."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.acceptance.command import Running, environment, running
from tests.acceptance.conftest import ONE, TWO, Operator
from tests.acceptance.test_supervision import Manager, listening
from tests.acceptance.test_terminal import Terminal
from tests.brokers import broker, publish
from tests.conftest import eventually
from tests.http.asking import SECRET, asking, token
from tests.servers import Valkey
from tests.sinks.webhook_harness import KEY as SIGNING
from tests.sinks.webhook_harness import Receiver

KEY = "a key of a server which is long enough"
OTHER_KEY = "another key which is long enough"
OTHER_SIGNING = "whsec_" + "bmV3" * 8
SET = f"UPDATE user_credits SET credits = %s WHERE user_id = '{TWO}'"
LEADER = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 1249075342 AND granted"
STREAM = f"/v1/users/{TWO}/credits/stream"


@dataclass(frozen=True, slots=True)
class Place:
    """A configuration with files of secrets beside it, and whom it tells."""

    operator: Operator
    folder: Path
    cache: Valkey
    receiver: Receiver

    @property
    def env(self) -> dict[str, str]:
        """The environment of the daemon: where its settings and its credentials are, and little else."""
        files = {"CREDITSD_CONFIG": str(self.folder / "creditsd.toml"), "CREDENTIALS_DIRECTORY": str(self.folder)}
        return environment(**files, CREDITSD_DSN=self.operator.database.dsn)

    @property
    def webhook(self) -> str:
        """The entry of the webhook."""
        return f"""
            [[sinks]]
            name = "billing"
            url = "webhook+http://127.0.0.1:{self.receiver.port}/hook"
            secret_file = "billing.secret"
            allow_cidrs = ["127.0.0.0/8"]
        """

    def write(self, text: str = "", *, sinks: str = "") -> None:
        """Write the settings, the cache, then other sinks, and put them in place at once, for they may be read now."""
        cache = f'[[sinks]]\nname = "cache"\nurl = "{self.cache.url}"\n'
        (self.folder / "new.toml").write_text(text + cache + sinks)
        (self.folder / "new.toml").rename(self.folder / "creditsd.toml")

    def secret(self, name: str, text: str) -> None:
        """Write a secret beside them."""
        (self.folder / name).write_text(text + "\n")

    def clients(self) -> list[str]:
        """Which connections the cache has beside ours, by number."""
        with redis.Redis.from_url(self.cache.url) as ours:
            mine = str(ours.client_id())
            return [client["id"] for client in ours.client_list() if client["id"] != mine]

    async def told(self, amount: int) -> Any:
        """Wait until the webhook is told of that many credits; return that delivery."""

        async def found() -> list[Any]:
            return [each for each in self.receiver.deliveries if int(each.data["credits"]) == amount]

        return (await eventually(found))[-1]

    def gives(self, amount: int) -> None:
        """Have the application give the second user so many credits."""
        self.operator.database.run(SET, [amount])


@pytest.fixture
async def place(installed: Operator, valkey: Valkey, tmp_path: Path) -> AsyncIterator[Place]:
    receiver = Receiver()
    await receiver.start()
    folder = tmp_path / "etc"
    folder.mkdir()
    made = Place(installed, folder, valkey, receiver)
    installed.database.run(f"UPDATE user_credits SET status = 'active' WHERE user_id = '{TWO}'")
    made.secret("billing.secret", SIGNING)
    made.secret("creditsd.http.api_keys", KEY)
    made.write()
    yield made
    await receiver.stop()


@asynccontextmanager
async def led(place: Place, directory: Path, **more: str) -> AsyncIterator[Running]:
    async with running(directory, env=place.env | more) as daemon:
        await daemon.until_ready()
        yield daemon


async def reloaded(daemon: Running, number: int = 1, event: str = "daemon.reloaded") -> dict[str, Any]:
    """Have it reload, and wait for the so-and-so-manieth record of that."""
    daemon.send(signal.SIGHUP)

    async def records() -> list[dict[str, Any]]:
        assert not daemon.ended, daemon.log()
        return daemon.logged(event)

    return (await eventually(records, lambda found: len(found) >= number))[number - 1]


async def test_a_sink_is_added_while_a_stream_and_the_lead_stay(place: Place, tmp_path: Path) -> None:
    async with led(place, tmp_path) as daemon, asking(daemon.port) as client, client.stream(STREAM, KEY) as stream:
        assert (await stream.total())["credits"] == 7
        leader, pid = place.operator.database.run(LEADER), daemon.pid
        place.write(sinks=place.webhook)
        said = await reloaded(daemon)
        assert (said["added"], said["unchanged"], said["settings"]) == (["billing"], ["cache"], ["sinks"])
        assert {each.data["user_id"] for each in (await place.told(7), await place.told(120))} == {ONE, TWO}
        place.gives(8)
        assert (await stream.total())["credits"] == 8
        await place.told(8)
        assert (place.operator.database.run(LEADER), daemon.pid) == (leader, pid)
        assert len(daemon.logged("daemon.led")) == 1
        assert await daemon.end() == 0


async def test_a_secret_is_rotated_in_its_file(place: Place, tmp_path: Path) -> None:
    place.write(sinks=place.webhook)
    async with led(place, tmp_path) as daemon:
        (await place.told(7)).verify(SIGNING)
        place.secret("billing.secret", OTHER_SIGNING)
        said = await reloaded(daemon)
        assert (said["changed"], said["unchanged"]) == (["billing"], ["cache"])
        place.gives(8)
        (await place.told(8)).verify(OTHER_SIGNING)
        assert SIGNING not in daemon.log()
        assert OTHER_SIGNING not in daemon.log()


async def test_keys_are_rotated_as_a_credential_and_only_who_had_one_that_is_gone_must_go(
    place: Place, tmp_path: Path
) -> None:
    settings = {"CREDITSD_HTTP__JWT_SECRET": SECRET}
    place.secret("creditsd.http.api_keys", f"{KEY}\n{OTHER_KEY}")
    async with led(place, tmp_path, **settings) as daemon, asking(daemon.port) as client:
        mine = "/v1/me/credits/stream"
        async with (
            client.stream(STREAM, KEY) as goes,
            client.stream(STREAM, OTHER_KEY) as stays,
            client.stream(mine, token(TWO)) as user,
        ):
            for each in (goes, stays, user):
                assert (await each.total())["credits"] == 7
            place.secret("creditsd.http.api_keys", OTHER_KEY)
            assert (await reloaded(daemon))["settings"] == ["http.api_keys"]
            assert await goes.farewell() == "token_expired"
            assert (await client.read(TWO, KEY)).status == 401
            assert (await client.read(TWO, OTHER_KEY)).status == 200
            place.gives(8)
            for each in (stays, user):
                assert (await each.total())["credits"] == 8


async def test_users_who_were_let_in_by_another_secret_sign_in_again(place: Place, tmp_path: Path) -> None:
    place.secret("creditsd.http.jwt_secret", SECRET)
    async with led(place, tmp_path) as daemon, asking(daemon.port) as client:
        async with client.stream("/v1/me/credits/stream", token(TWO)) as user, client.stream(STREAM, KEY) as server:
            await asyncio.gather(user.total(), server.total())
            other = SECRET[::-1]
            place.secret("creditsd.http.jwt_secret", other)
            await reloaded(daemon)
            assert await user.farewell() == "token_expired"
            place.gives(8)
            assert (await server.total())["credits"] == 8
        async with client.stream("/v1/me/credits/stream", token(TWO, key=other)) as user:
            assert (await user.total())["credits"] == 8


async def test_limits_origins_the_page_and_the_log_are_changed(place: Place, tmp_path: Path) -> None:
    async with led(place, tmp_path) as daemon, asking(daemon.port) as client:
        assert (await client.get("/")).status == 404
        place.write(
            f"""
            [http]
            operator_keys = ["{OTHER_KEY}"]
            cors_origins = ["https://app.example.com"]
            metrics_public = false
            max_streams = 0
            [log]
            level = "debug"
            """
        )
        await reloaded(daemon)
        page = await client.get("/", Origin="https://app.example.com")
        assert (page.status, page.headers["Access-Control-Allow-Origin"]) == (200, "https://app.example.com")
        assert (await client.get("/v1/operator/state", X_API_Key=OTHER_KEY)).status == 200
        assert (await client.get("/metrics")).status == 401
        assert (await client.get(STREAM, X_API_Key=KEY)).status == 503
        place.gives(8)
        await daemon.until_logged("publisher.delivered")  # which debug says
        place.write()
        await reloaded(daemon, 2)
        assert (await client.get("/")).status == 404
        assert (await client.get("/metrics")).status == 200


async def test_a_wrong_file_changes_nothing_and_is_one_line(place: Place, tmp_path: Path) -> None:
    place.write(sinks=place.webhook)
    async with led(place, tmp_path) as daemon:
        await place.told(7)
        clients = place.clients()
        assert clients
        place.write("shutdown_secnds = 3\n", sinks="[[sinks]]\nurl = 'redsi://nowhere'\n")
        said = await reloaded(daemon, event="daemon.reload_refused")
        assert (said["level"], "did you mean" in said["reason"]) == ("error", True)
        assert "nothing is changed" in said["hint"]
        place.write("", sinks=place.webhook.replace("secret_file", "secrte_file"))
        (place.folder / "billing.secret").unlink()
        said = await reloaded(daemon, 2, event="daemon.reload_refused")
        assert "billing.secret" in said["reason"]
        place.gives(8)
        (await place.told(8)).verify(SIGNING)
        assert place.clients() == clients
        assert (await daemon.ask("/readyz"))[0] == 200
        place.secret("billing.secret", SIGNING)
        place.write(sinks=place.webhook)
        said = await reloaded(daemon)
        assert said["unchanged"] == ["cache", "billing"]
        assert place.clients() == clients, "the cache was opened anew"


async def test_what_takes_a_restart_is_named_once_and_the_rest_is_applied(place: Place, tmp_path: Path) -> None:
    async with led(place, tmp_path) as daemon:
        text = 'can_buy = "always"\nreader = "somebody"\n[history]\ndays = 3\n[http]\nlisten = "127.0.0.1:1"\n'
        place.write(text, sinks=place.webhook)
        said = await reloaded(daemon)
        assert said["added"] == ["billing"]
        await place.told(7)
        needed = await daemon.until_logged("settings.restart_needed")
        assert (needed["level"], needed["settings"]) == ("warning", ["can_buy", "history.days"])
        assert "restart" in needed["hint"]


async def test_it_is_said_to_be_reloading_until_it_has(place: Place, tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as manager:
        async with led(place, tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon:
            await manager.until("READY=1")
            began = time.monotonic_ns() // 1000
            daemon.send(signal.SIGHUP)
            assert began <= await reloading(manager) <= time.monotonic_ns() // 1000
            await manager.until("READY=1")
            assert manager.heard[-1] == "STATUS=leading"
            await daemon.until_logged("daemon.reloaded")
            place.write("nonsense = 1\n")
            daemon.send(signal.SIGHUP)
            await reloading(manager)
            await manager.until("READY=1")
            assert manager.heard[-1].startswith("STATUS=leading; new settings were refused: ")
            assert await daemon.end() == 0


async def reloading(manager: Manager) -> int:
    """Wait until it says so, and return since when, in microseconds of the monotonic clock."""
    message = await manager.hear()
    while not message.startswith("RELOADING=1\n"):
        message = await manager.hear()
    return int(message.partition("MONOTONIC_USEC=")[2])


async def test_during_its_start_it_reloads_and_does_not_say_that_the_start_is_over(
    place: Place, tmp_path: Path
) -> None:
    with listening(str(tmp_path / "notify")) as manager:
        async with place.operator.database.connect(autocommit=False) as session:
            await session.execute("LOCK creditsd.reader")
            async with running(tmp_path, env=place.env | {"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
                await daemon.until("/livez", lambda answer: answer[0] == 200)
                place.write(sinks=place.webhook)
                assert (await reloaded(daemon))["added"] == ["billing"]
                while manager.pending():
                    pass
                assert not {"READY=1", "RELOADING=1"} & set(manager.heard)
                await session.rollback()
                await daemon.until_ready()
                await manager.until("READY=1")
                await place.told(7)
                assert await daemon.end() == 0


async def test_signals_in_a_row_and_one_before_its_end_are_harmless(place: Place, tmp_path: Path) -> None:
    async with led(place, tmp_path) as daemon:
        for sinks in (place.webhook, "", place.webhook):
            place.write(sinks=sinks)
            daemon.send(signal.SIGHUP)
            daemon.send(signal.SIGHUP)
        await place.told(7)
        await reloaded(daemon)
        daemon.send(signal.SIGHUP)
        assert await daemon.end() == 0
        assert not daemon.logged("daemon.reload_refused")


async def test_the_terminal_that_is_closed_ends_it(place: Place) -> None:
    async with Terminal("run", env=place.env) as terminal:
        await terminal.shows("daemon.led")
        os.kill(terminal.pid, signal.SIGHUP)
        await terminal.shows("daemon.reloaded")
        terminal.hang_up()
        assert await terminal.ends() == 0


async def test_a_gateway_takes_other_keys_and_names_what_takes_a_restart(tmp_path: Path) -> None:
    keys, config = tmp_path / "keys", tmp_path / "serve.toml"
    keys.write_text(KEY)
    config.write_text("")
    async with broker("redis") as server:
        await publish(server, "bob", version=1, amount=5)
        files = {"CREDITSD_HTTP__API_KEYS_FILE": str(keys), "CREDITSD_CONFIG": str(config)}
        env = environment(CREDITSD_SERVE__FEED=server.url, **files)
        async with running(tmp_path, env=env, command="serve") as gateway, asking(gateway.port) as client:
            await gateway.until_ready()
            keys.write_text(f"{KEY}\n{OTHER_KEY}")
            async with client.stream("/v1/users/bob/credits/stream", KEY) as stream:
                assert (await stream.total())["credits"] == 5
                assert (await client.read("bob", OTHER_KEY)).status == 401
                await reloaded(gateway, event="gateway.reloaded")
                assert (await client.read("bob", OTHER_KEY)).status == 200
                await publish(server, "bob", version=2, amount=6)
                assert (await stream.total())["credits"] == 6
                config.write_text("shutdown_seconds = 3\n[serve]\nsweep_seconds = 3\n")
                await reloaded(gateway, 2, event="gateway.reloaded")
                needed = await gateway.until_logged("settings.restart_needed")
                assert needed["settings"] == ["serve.sweep_seconds"]
                config.write_text("[http]\nmax_streams = -1\n")
                await reloaded(gateway, event="gateway.reload_refused")
                assert (await client.read("bob", KEY)).status == 200
            assert await gateway.end() == 0
