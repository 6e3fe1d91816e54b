"""The Debian package on a Debian that has booted, from its installation to its purge: in this order, on one machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.boot.machine import Machine
from tests.boot.service import (
    PATIENCE_SECONDS,
    SETTINGS,
    WRITES,
    Service,
    recipe_of_monitoring,
    recipe_of_package,
)
from tests.conftest import eventually

pytestmark = pytest.mark.boot

FIRST, SECOND = "whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "="


@pytest.fixture(scope="module")
def service(machine: Machine) -> Service:
    return Service(machine)


async def test_the_recipe_of_the_docs_works_line_by_line_and_nothing_starts_before_it_says_so(
    service: Service,
) -> None:
    machine = service.machine
    service.prepare()
    done = []
    for line in recipe_of_package():
        assert machine.try_run("systemctl is-active creditsd").stdout.strip() == "inactive"
        if line.startswith("editor"):
            service.configure(secret=FIRST)
            continue
        done.append(line.replace("install ./creditsd_*.deb", "install -y /shared/creditsd_*-1_*.deb"))
        machine.run("\n".join([*[each for each in done[:-1] if each.startswith("export")], done[-1]]))
        assert line.startswith("systemctl") or machine.try_run("systemctl is-enabled creditsd").returncode == 1
    assert machine.shows("creditsd", "ActiveState") == "active"  # start has waited until it was ready
    assert machine.shows("creditsd", "StatusText") == "leading"
    assert machine.run(f"stat -c %U /proc/{service.pid}") == "creditsd"
    machine.run("creditsd healthcheck")
    await service.until_right()
    assert machine.run("stat -c '%U:%G %a' /etc/creditsd/creditsd.toml") == "root:creditsd 640"


async def test_prometheus_watches_it_as_the_docs_say_line_by_line(service: Service) -> None:
    machine = service.machine
    *lines, asked = recipe_of_monitoring()
    for line in lines:
        if line.startswith("apt-get install"):
            for name in line.split()[2:]:
                assert machine.run(f"dpkg-query -W -f '${{Status}}' {name}") == "install ok installed"
            continue
        machine.run(f"cd /usr/share/doc/creditsd/examples\n{line}")

    async def answered() -> list[Any]:
        said = machine.try_run(asked).stdout
        found = json.loads(said)["data"]["result"] if said.startswith("{") else []  # no JSON while it starts
        return [each["value"][1] for each in found]

    assert await eventually(answered, bool, PATIENCE_SECONDS) == ["1"]
    rules = json.loads(machine.run("curl -s http://127.0.0.1:9090/api/v1/rules"))["data"]["groups"]
    assert len([rule for group in rules for rule in group["rules"]]) > 10


async def test_its_commands_are_there_with_completion_and_a_page_of_the_manual(service: Service) -> None:
    machine = service.machine
    assert machine.run("creditsd --version").startswith("creditsd ")
    get = "CREDITSD_DSN='host=/run/postgresql dbname=app' runuser -u postgres -G creditsd -- creditsd get"
    assert json.loads(machine.run(f"{get} 00000000-0000-4000-8000-000000000001"))["data"]["credits"] > 0
    asked = "COMP_WORDS=(creditsd stat) COMP_CWORD=1; _creditsd_completion creditsd; echo ${COMPREPLY[@]}"
    assert machine.run(f"source /usr/share/bash-completion/completions/creditsd; {asked}") == "status"
    assert machine.run("dpkg -L creditsd").count("/usr/share/man/man1/creditsd.1.gz") == 1
    assert machine.run("dpkg --verify creditsd | grep -v /usr/share/ | grep -v ' c ' || true") == ""
    assert machine.run("systemd-analyze verify --man=no creditsd.service creditsd-serve.service 2>&1") == ""


async def test_a_reload_takes_a_rotated_secret_and_keeps_the_process(service: Service) -> None:
    before = service.pid
    since = service.now()
    service.configure(secret=SECOND)
    service.machine.run("systemctl reload creditsd")
    await service.until_logged("daemon.reloaded", since)
    told = len(service.received())
    await service.until_right()
    await eventually(lambda: _later(service, told), bool, PATIENCE_SECONDS)
    last = service.received()[-1]
    Webhook(SECOND).verify(last["body"], last["headers"])
    with pytest.raises(WebhookVerificationError):
        Webhook(FIRST).verify(last["body"], last["headers"])
    assert service.pid == before


async def test_wrong_settings_are_an_error_in_the_journal_change_nothing_and_are_no_start(service: Service) -> None:
    machine, since, before = service.machine, service.now(), service.pid
    machine.write("/etc/creditsd/creditsd.toml", SETTINGS + "\nsinkz = 1\n", mode="0640", group="creditsd")
    machine.run("systemctl reload creditsd")
    entry = await service.until_logged("daemon.reload_refused", since)
    assert entry["PRIORITY"] == "3"
    assert service.pid == before
    since = service.now()
    assert machine.try_run("systemctl restart creditsd").returncode != 0
    assert machine.shows("creditsd", "ExecMainStatus") == "78"
    assert machine.shows("creditsd", "ActiveState") == "failed"
    ours = [
        each for each in service.said(since) if each.get("SYSLOG_IDENTIFIER") == "creditsd" and each["PRIORITY"] == "3"
    ]
    assert [each["MESSAGE"].startswith("creditsd: ") for each in ours] == [True]
    service.configure(secret=SECOND)
    machine.run("systemctl start creditsd")
    await service.until_right()


async def test_each_line_of_the_journal_has_its_priority_and_begins_with_its_event(service: Service) -> None:
    entries = service.machine.journal("-u creditsd -t creditsd")
    told = [(json.loads(each["MESSAGE"]), each["PRIORITY"]) for each in entries if each["MESSAGE"].startswith("{")]
    priorities = {"error": "3", "warning": "4", "info": "6"}
    assert len(told) > 5
    assert [event for event, priority in told if priorities[event["level"]] != priority] == []
    assert [event for event, _ in told if next(iter(event)) != "event"] == []
    assert {priority for _, priority in told} >= {"3", "6"}


async def test_a_process_that_hangs_is_killed_by_the_watchdog_and_replaced(service: Service) -> None:
    since, before = service.now(), service.pid
    service.machine.run(f"kill -STOP {before}")
    await service.until_active(before)
    assert any("Watchdog timeout" in each["MESSAGE"] for each in service.said(since))
    await service.until_right()


async def test_a_process_that_is_killed_is_replaced(service: Service) -> None:
    before = service.pid
    service.machine.run(f"kill -KILL {before}")
    await service.until_active(before)
    await service.until_right()


async def test_an_upgrade_under_writes_restarts_it_and_loses_nothing(
    service: Service, record_property: Callable[[str, object], None]
) -> None:
    machine, before = service.machine, service.pid
    machine.write("/root/writes", WRITES)
    machine.run('systemd-run --unit=writes --uid=postgres bash -c "$(cat /root/writes)"')
    machine.run("apt-get install -y /shared/creditsd_*-2_*.deb")
    assert machine.run("dpkg-query -W -f '${Version}' creditsd").endswith("-2")
    await service.until_active(before)
    left, entered = (
        int(machine.shows("creditsd", f"{each}Monotonic")) for each in ("ActiveExitTimestamp", "ActiveEnterTimestamp")
    )
    record_property("gap_seconds", (entered - left) / 1e6)
    machine.run("systemctl stop writes")
    await service.until_right()


async def test_an_upgrade_that_wants_another_schema_leaves_what_runs_alone_and_says_what_to_do(
    service: Service,
) -> None:
    machine, before = service.machine, service.pid
    machine.run("echo another >/usr/lib/creditsd/schema")
    done = machine.try_run("dpkg -i /shared/creditsd_*-1_*.deb")
    assert done.returncode == 0, done.stderr
    assert "creditsd install" in done.stderr
    assert (service.pid, machine.shows("creditsd", "ActiveState")) == (before, "active")
    await service.until_right()
    machine.run("systemctl restart creditsd")
    await service.until_right()


async def test_removed_it_keeps_its_settings_and_purged_none_and_writes_go_on(service: Service) -> None:
    machine = service.machine
    machine.run("apt-get remove -y creditsd")
    assert machine.shows("creditsd", "ActiveState") == "inactive"
    assert machine.run("ls /etc/creditsd").split() == ["billing", "creditsd.toml", "dsn"]
    machine.run("apt-get purge -y creditsd")
    for gone in ("/etc/creditsd", "/usr/lib/creditsd", "/usr/bin/creditsd", "/usr/lib/systemd/system/creditsd.service"):
        assert machine.try_run(f"test -e {gone}").returncode == 1, gone
    assert machine.run("find /etc/systemd /var/lib/systemd/deb-systemd-helper-enabled -name 'creditsd*'") == ""
    machine.sql("UPDATE user_credits SET credits = credits + 1")


async def _later(service: Service, told: int) -> bool:
    return len(service.received()) > told
