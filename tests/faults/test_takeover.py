"""A leader is stopped and killed under load: the other daemon takes over, and publishes nothing that is older."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults.another_machine import AnotherMachine, another_machine
from tests.faults.conftest import USERS, prepare
from tests.faults.takeover import Takeovers
from tests.servers import Postgres, Valkey


@pytest.fixture
def machines() -> Iterator[Sequence[AnotherMachine]]:
    with contextlib.ExitStack() as stack:
        try:
            pair = [stack.enter_context(another_machine(which)) for which in (0, 1)]
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no right to make network namespaces")
        yield pair


async def test_whoever_takes_over_publishes_nothing_older_and_whoever_is_deposed_nothing(
    machines: Sequence[AnotherMachine], own_postgres: Callable[..., Postgres], tmp_path: Path
) -> None:
    addresses = ["127.0.0.1", *(machine.here for machine in machines)]
    server = own_postgres(listen_addresses=",".join(addresses))
    for machine in machines:
        server.admit(machine.network)
    prepare(server.dsn())
    with Valkey("--bind", *addresses, "--protected-mode", "no") as valkey:
        found = await Takeovers(server, valkey, machines, tmp_path).happen(
            ["stopped", "killed", "terminated"], users=USERS, clients=4, pause_seconds=0.005
        )
    assert [(fault, len(seconds)) for fault, seconds in found.seconds.items()] == [
        ("stopped", 1), ("killed", 1), ("terminated", 1)
    ]  # fmt: skip
    assert found.wrong == {}
    assert found.older == []
    assert found.deposed == []
