"""The unit on a Debian that has booted, installed with pip as its own head says, line by line."""

from __future__ import annotations

import pytest

from tests.boot.machine import Machine
from tests.boot.service import Service, recipe_of_unit

pytestmark = pytest.mark.boot

WHEELS = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/shared/wheels PIP_DISABLE_PIP_VERSION_CHECK=1"


async def test_its_head_is_a_recipe_that_works_line_by_line_and_logs_in_by_peer(machine: Machine) -> None:
    service = Service(machine)
    service.prepare()
    for line in recipe_of_unit():
        if line.startswith("apt-get install"):
            assert machine.run("dpkg-query -W -f '${Status}' " + line.split()[-1]) == "install ok installed"
            continue
        machine.run(f"cd /shared/systemd\n{WHEELS}\n{line}")
        if "creditsd.toml" in line:
            service.configure(secret="whsec_" + "A" * 43 + "=")
    assert machine.shows("creditsd", "StatusText") == "leading"
    assert machine.run(f"stat -c %U /proc/{service.pid}") == "creditsd"
    assert machine.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'creditsd%'") == [
        ["creditsd"]
    ]
    await service.until_right()
