"""A secret of its own in every setting that can hold one; then all that is printed, logged and stored is searched."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import nkeys
import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import rsa
from psycopg.conninfo import conninfo_to_dict

from tests.acceptance.command import Running, creditsd, environment, running
from tests.acceptance.conftest import ONE, Operator
from tests.conftest import eventually
from tests.servers import free_port

RSA = rsa.generate_private_key(65537, 2048)
CREDS = """-----BEGIN NATS USER JWT-----
{}
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
{}
------END USER NKEY SEED------
"""
COMMANDS = ("config", "status", "doctor", "sinks list", "sinks test hook", f"explain {ONE}")
PATHS = ("/readyz", "/livez", "/openapi.json", "/v1/operator/state", f"/v1/operator/explain/{ONE}", "/v1/me/credits")


class Planted:
    """Secrets of one configuration, each known by the name of where it stands."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    def text(self, where: str) -> str:
        """Make one that means nothing."""
        return self._keep(where, f"Pl{secrets.token_hex(20)}")

    def signing(self, where: str) -> str:
        """Make one that signs webhooks."""
        return "whsec_" + self._keep(where, base64.b64encode(secrets.token_bytes(30)).decode())

    def seed(self, where: str) -> str:
        """Make one that NATS takes for an nkey."""
        return self._keep(where, nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())

    def found_in(self, text: str) -> list[str]:
        """Return where those are from that stand in a text, as they are or as a login writes them."""
        return sorted({where for where, written in self._written() if written in text})

    def _keep(self, where: str, secret: str) -> str:
        self.secrets[where] = secret
        return secret

    def _written(self) -> Iterator[tuple[str, str]]:
        for where, secret in self.secrets.items():
            yield where, secret
            yield where, secret[4:-4]  # cut short, or with an escape at its ends
            for user in ("app", "u", ""):
                yield where, base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=")[4:-4]


@pytest.fixture
def planted() -> Planted:
    return Planted()


def everywhere(planted: Planted, dsn: str, listen_dsn: str, port: int) -> dict[str, Any]:
    """Settings with a secret wherever one fits; nobody listens at the port, so each sink has a failure to tell."""
    at = f"127.0.0.1:{port}"
    sinks: dict[str, dict[str, Any]] = {
        "cache": {"url": f"redis://app:{planted.text('redis')}@{at}/0"},
        "watched": {
            "url": f"redis+sentinel://app:{planted.text('redis behind sentinel')}@{at}/main",
            "sentinel_password": planted.text("sentinel_password"),
        },
        "hook": {
            "url": f"webhook+http://app:{planted.text('webhook login')}@{at}/x?token={planted.text('webhook query')}",
            "secrets": [planted.signing("secrets 1"), planted.signing("secrets 2")],
            "headers": {"X-Shop": planted.text("header")},
            "allow_cidrs": ["127.0.0.0/8"],
        },
        "tunnel": {
            "url": "webhook+https://hooks.invalid/x",
            "secret": planted.signing("secret"),
            "headers": {"Authorization": f"Bearer {planted.text('authorization')}"},
            "proxy": f"http://app:{planted.text('proxy')}@{at}",
        },
        "bus": {"url": f"nats://app:{planted.text('nats login')}@{at}"},
        "bus-token": {"url": f"nats://{at}", "token": planted.text("nats token")},
        "bus-nkey": {"url": f"nats://{at}", "nkey": planted.seed("nats nkey")},
        "bus-creds": {
            "url": f"nats://{at}",
            "creds": CREDS.format(planted.text("nats jwt"), planted.seed("nats creds")),
        },
        "log": {"url": f"kafka+sasl://app:{planted.text('kafka')}@{at}", "timeout_seconds": 1},
        "pages": {"url": f"supabase://app:{planted.text('supabase dsn')}@{at}/postgres"},
        "pages-http": {"url": f"supabase+http://{at}", "key": f"sb_secret_{planted.text('supabase key')}"},
    }
    return {
        "dsn": dsn,
        "listen_dsn": listen_dsn,
        "log": {"level": "debug"},
        "http": {
            "api_keys": [planted.text("api_keys 1"), planted.text("api_keys 2")],
            "operator_keys": [planted.text("operator_keys, which the environment hides")],
            "jwt_secret": planted.text("jwt_secret") + planted.text("jwt_secret, its end"),
            "jwks_url": f"http://app:{planted.text('jwks login')}@{at}/jwks?apikey={planted.text('jwks query')}",
            "servers": [{"name": "billing", "key": planted.text("server key")}],
        },
        "serve": {
            "feed": f"redis://app:{planted.text('feed')}@{at}/0",
            "sentinel_password": planted.text("serve.sentinel_password"),
            "token": planted.text("serve.token"),
        },
        "tracing": {"otlp_url": f"http://{at}/v1/traces?api_key={planted.text('otlp query')}"},
        "sinks": [{"name": name, **options} for name, options in sinks.items()],
    }


def logins(planted: Planted, operator: Operator) -> tuple[str, str]:
    """Return the dsn as a URL and as keywords, each with a password that the server does not ask for."""
    at = conninfo_to_dict(operator.database.dsn)
    url = f"postgresql://{at['user']}:{planted.text('dsn')}@{at['host']}:{at['port']}/{at['dbname']}"
    return url, f"{operator.database.dsn} password='{planted.text('listen_dsn')}'"


async def asked(daemon: Running, planted: Planted) -> str:
    """Ask with every key that there is, and with wrong ones, and return all that was answered."""
    claims = {"sub": ONE, "exp": time.time() + 600}
    keys = [
        "",
        "wrong",
        planted.secrets["api_keys 1"],
        planted.secrets["environment"],
        jwt.encode(claims, RSA, "RS256", headers={"kid": "k"}),  # whose key is asked for, and cannot be had
    ]
    answers = [await daemon.ask(path, key) for path in PATHS for key in keys]
    return json.dumps(answers) + await daemon.figures()


def command_line(pid: int) -> str:
    """Return what the list of processes shows of one."""
    return Path(f"/proc/{pid}/cmdline").read_text()


async def failing(operator: Operator, sinks: int) -> None:
    """Wait until each sink has told why it cannot be reached."""

    async def told() -> list[tuple[object, ...]]:
        return operator.database.run("SELECT name FROM creditsd.sinks WHERE last_error <> ''")

    await eventually(told, lambda rows: len(rows) == sinks)


async def test_no_secret_is_printed_logged_exported_stored_or_in_the_list_of_processes(
    installed: Operator, planted: Planted, tmp_path: Path
) -> None:
    given = everywhere(planted, *logins(planted, installed), free_port())
    file = tmp_path / "creditsd.toml"
    file.write_text(tomli_w.dumps(given))
    env = environment(CREDITSD_CONFIG=str(file), CREDITSD_HTTP__OPERATOR_KEYS=planted.text("environment"))
    seen: dict[str, str] = {}
    async with running(tmp_path, env=env) as daemon:
        await daemon.until_ready()
        await failing(installed, len(given["sinks"]))
        seen["answers"] = await asked(daemon, planted)
        given["http"]["jwt_secret"] = planted.text("jwt_secret, rotated") * 2
        file.write_text(tomli_w.dumps(given))
        daemon.send(signal.SIGHUP)
        await daemon.until_logged("daemon.reloaded")
        for command in COMMANDS:
            done = await creditsd(*command.split(), env=env)
            seen[command] = done.out + done.err
        seen["argv"] = command_line(daemon.pid)
        seen["sessions"] = str(installed.database.run("SELECT application_name, query FROM pg_stat_activity"))
        assert await daemon.end() == 0
        seen["log"] = daemon.log()
    seen["database"] = installed.database.pg_dump()
    assert "keys.unread" in seen["log"]
    assert "[http]" in seen["config"]
    assert len(planted.found_in(file.read_text())) > 25, "they can be found where they are"
    assert {where: found for where, text in seen.items() if (found := planted.found_in(text))} == {}


async def test_a_gateway_shows_no_secret_of_its_feed(planted: Planted, tmp_path: Path) -> None:
    at = f"127.0.0.1:{free_port()}"
    feeds: dict[str, dict[str, str]] = {
        "redis": {"feed": f"redis://app:{planted.text('feed')}@{at}/0"},
        "nats": {"feed": f"nats://{at}", "token": planted.text("token")},
    }
    for name, serve in feeds.items():
        file = tmp_path / f"{name}.toml"
        file.write_text(tomli_w.dumps({"serve": serve, "http": {"api_keys": [planted.text(f"key {name}")]}}))
        env = environment(CREDITSD_CONFIG=str(file))
        async with running(tmp_path, env=env, command="serve") as gateway:
            await gateway.until_logged("feed.lost")
            answers = [await gateway.ask(path) for path in ("/readyz", "/livez", f"/v1/users/{ONE}/credits")]
            figures = await gateway.figures()
            await gateway.end()
            assert planted.found_in(gateway.log() + json.dumps(answers) + figures) == []
