"""A Debian that has booted under a systemd of its own: a root made once by debootstrap, run by systemd-nspawn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUITE = os.environ.get("BOOT_SUITE", "bookworm")
PLACE = ROOT / "build" / "boot"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,postgresql,redis-server,adduser,prometheus,curl"
"""What a server has that is set up with as little as possible, and watched; of libnss-systemd, for one, nothing."""

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Return why no machine can boot here, or nothing."""
    if os.geteuid() != 0:
        return "only root can boot a machine"
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program, path=PATH) is None:
            return f"needs {program} (Debian: apt-get install {package})"
    return ""


def made() -> Path:
    """Return the root of a minimal Debian, made where it is not there yet: that takes the network, and minutes."""
    root = PLACE / SUITE
    complete = root / "complete"
    if not complete.exists() or complete.read_text() != PACKAGES:
        _clear(root)
        root.mkdir(parents=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        complete.write_text(PACKAGES)
    return root


def _clear(root: Path) -> None:
    """Remove a root, and first unmount what a debootstrap that was interrupted has left mounted in it."""
    mounts = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed(mounts):
        if place.is_relative_to(root):
            subprocess.run(["umount", str(place)], check=True)
    if root.exists():
        shutil.rmtree(root)


class Machine:
    """One that runs, with its own systemd, PostgreSQL and Redis, and no network but its loopback."""

    def __init__(self, leader: int) -> None:
        self._inside = ["nsenter", f"--target={leader}", "--all", "--", "env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8"]

    def try_run(self, script: str, said: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script of bash as root, and return how it ended; `said` is its input."""
        command = [*self._inside, "bash", "-euo", "pipefail", "-c", f"cd /root\n{script}"]
        return subprocess.run(command, check=False, capture_output=True, text=True, input=said)

    def run(self, script: str, said: str = "") -> str:
        """Run a script that must succeed, and return what it printed."""
        done = self.try_run(script, said)
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str, *, mode: str = "0644", group: str = "root") -> None:
        """Write a file as a whole."""
        self.run(f"install -m {mode} -g {group} /dev/stdin {path}", text)

    def sql(self, statement: str) -> list[list[str]]:
        """Run a statement in the application's database, as its superuser, and return the rows."""
        printed = self.run("runuser -u postgres -- psql -qAtF '|' -v ON_ERROR_STOP=1 app", statement)
        return [line.split("|") for line in printed.splitlines()]

    def shows(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run(f"systemctl show --value -p {name} {unit}")

    def journal(self, arguments: str) -> list[dict[str, Any]]:
        """Return entries of the journal, as they are stored."""
        self.run("journalctl --sync")
        return [json.loads(line) for line in self.run(f"journalctl -o json {arguments}").splitlines()]


@contextlib.contextmanager
def booted(log: Path, shared: Path) -> Iterator[Machine]:
    """Boot a machine for as long as the block lasts; it writes to memory alone, and sees our folder at /shared."""
    options = ["--volatile=overlay", "--private-network", "--register=no", "--keep-unit", f"--bind-ro={shared}:/shared"]
    name = f"--machine=creditsd-{os.getpid()}"
    command = ["systemd-nspawn", "--quiet", f"--directory={made()}", *options, name, "--console=read-only", "--boot"]
    with log.open("wb") as console:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    try:
        yield Machine(_leader(running))
    finally:
        running.terminate()
        running.wait()


def _leader(running: subprocess.Popen[bytes]) -> int:
    """Wait until the machine has booted, and return the process that is its first."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    while running.poll() is None:
        for child in children.read_text().split():
            command = ["nsenter", f"--target={child}", "--all", "--", "systemctl", "is-system-running", "--wait"]
            said = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
            if said in ("running", "degraded"):
                return int(child)
    raise AssertionError(f"systemd-nspawn ended with {running.returncode}")
