"""creditsd as a service of a booted machine: its database, its settings, and whether all totals are right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.boot.machine import ROOT, Machine
from tests.conftest import eventually

PATIENCE_SECONDS = 180.0
TABLE = """
CREATE TABLE public.user_credits (
    user_id uuid NOT NULL, credits integer NOT NULL, status text NOT NULL, plan_type text,
    expires_at timestamptz, created_at timestamptz DEFAULT now()
);
CREATE INDEX ON user_credits (user_id);
INSERT INTO user_credits
SELECT ('00000000-0000-4000-8000-0000000000' || lpad(n::text, 2, '0'))::uuid, n, 'active', 'one_time'
FROM generate_series(1, 20) AS n;
"""
SETTINGS = """
[source]
table = "public.user_credits"

[http]
listen = "127.0.0.1:8321"

[[sinks]]
name = "cache"
url = "redis://localhost:6379/0"

[[sinks]]
name = "billing"
url = "webhook+http://127.0.0.1:9000/hooks"
secret_file = "/etc/creditsd/billing"
allow_cidrs = ["127.0.0.0/8"]
"""
RECEIVER = """
import http.server, json

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with open("/run/received", "a") as file:
            file.write(json.dumps({"headers": {k.lower(): v for k, v in self.headers.items()}, "body": body}) + "\\n")
        self.send_response(204)
        self.end_headers()

http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()
"""
WRITES = """
while :; do
    psql -q app -c "UPDATE user_credits SET credits = credits + 1
        WHERE user_id = ('00000000-0000-4000-8000-0000000000' || lpad((1 + random() * 19)::int::text, 2, '0'))::uuid"
done
"""


class Service:
    """The unit `creditsd` of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def prepare(self) -> None:
        """Make the application's database, and start a receiver of webhooks."""
        self.machine.run("runuser -u postgres -- createdb app")
        self.machine.sql(TABLE)
        self.machine.write("/root/receiver.py", RECEIVER)
        self.machine.run("systemd-run --unit=receiver python3 /root/receiver.py")

    def configure(self, *, secret: str, group: str = "creditsd") -> None:
        """Write what is to be filled in by hand: the settings, and the secret of a sink."""
        self.machine.write("/etc/creditsd/billing", secret, mode="0640", group=group)
        self.machine.write("/etc/creditsd/creditsd.toml", SETTINGS, mode="0640", group=group)

    @property
    def pid(self) -> str:
        """The process that runs."""
        pid = self.machine.shows("creditsd", "MainPID")
        assert pid != "0", "creditsd does not run"
        return pid

    async def until_active(self, before: str = "0") -> str:
        """Wait until it is ready, as another process than before; return that one."""

        async def running() -> tuple[str, str]:
            return self.machine.shows("creditsd", "ActiveState"), self.machine.shows("creditsd", "MainPID")

        _, pid = await eventually(
            running, lambda found: found[0] == "active" and found[1] not in ("0", before), PATIENCE_SECONDS
        )
        return pid

    async def until_right(self) -> None:
        """Write once more, and wait until Redis holds of every user what the table adds up to."""
        self.machine.sql("UPDATE user_credits SET credits = credits + 1")
        truth = {
            user: int(total)
            for user, total in self.machine.sql("SELECT user_id, sum(credits) FROM user_credits GROUP BY user_id")
        }
        assert len(truth) == 20

        async def held() -> dict[str, int]:
            keys = " ".join(f"credits:{user}" for user in truth)
            totals = [json.loads(line) for line in self.machine.run(f"redis-cli mget {keys}").splitlines() if line]
            return {total["user_id"]: total["credits"] for total in totals}

        await eventually(held, lambda found: found == truth, PATIENCE_SECONDS)

    def received(self) -> list[dict[str, Any]]:
        """Every webhook that has arrived."""
        return [json.loads(line) for line in self.machine.run("cat /run/received").splitlines()]

    async def until_logged(self, event: str, since: str) -> dict[str, Any]:
        """Wait for an event in the journal since a cursor of it, and return the entry."""

        async def entries() -> list[dict[str, Any]]:
            return [each for each in self.said(since) if str(each["MESSAGE"]).startswith(f'{{"event":"{event}"')]

        return (await eventually(entries, bool, PATIENCE_SECONDS))[-1]

    def said(self, since: str) -> list[dict[str, Any]]:
        """What the journal has of the unit since a cursor: its own lines, and systemd's about it."""
        # Unfiltered: journalctl leaves out the first entry that matches where that of the cursor does not.
        entries = self.machine.journal(f"--after-cursor='{since}'")
        return [each for each in entries if "creditsd.service" in (each.get("_SYSTEMD_UNIT"), each.get("UNIT"))]

    def now(self) -> str:
        """Where the journal ends."""
        return str(self.machine.journal("-n 1")[-1]["__CURSOR"])


def recipe_of_package() -> list[str]:
    """The lines of docs/deploy.md that install the package."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- boot: package -->\n```sh\n(.*?)```", text, re.DOTALL)
    return str(block).splitlines()


def recipe_of_monitoring() -> list[str]:
    """The lines of docs/alerts.md that have Prometheus watch it."""
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- boot: prometheus -->\n```sh\n(.*?)```", text, re.DOTALL)
    return str(block).splitlines()


def recipe_of_unit() -> list[str]:
    """The lines of the unit's head that install it."""
    head = Path(ROOT, "systemd", "creditsd.service").read_text(encoding="utf-8").partition("[Unit]")[0]
    return [line.removeprefix("#   ") for line in head.splitlines() if line.startswith("#   ")]
