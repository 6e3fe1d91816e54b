"""What is installed: wheels with what they need to work, and no more; and one line where a library is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.command import environment
from tests.conftest import Database
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
FINE = {".py", ".sql", ".lua", ".js", ".json", ".css", ".html", ".svg", ".woff2", ".txt", ".typed"}


def build(folder: Path, into: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(into)]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = into.glob("*.whl")
    return wheel


def files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The daemon's wheel, built from this checkout."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def tracked(*folders: str) -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is no checkout")
    return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}


def test_the_wheel_has_the_package_and_its_sql_and_no_more(wheel: Path) -> None:
    wanted = tracked("creditsd") | {f"creditsd/{name}" for name in tracked("sql")}
    assert files(wheel) == wanted
    # Pictures, results of benchmarks and archives have no place in it.
    assert {Path(name).suffix for name in wanted} <= FINE
    assert wheel.stat().st_size < 700_000


def test_the_readme_that_travels_with_it_points_to_nothing_that_stays_behind(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(name).decode()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "https://github.com/creditsd/creditsd/blob/main/docs/configuration.md#your-table" in targets
    assert "https://raw.githubusercontent.com/creditsd/creditsd/main/docs/images/line.svg" in targets


def test_the_clients_wheel_is_the_client_alone(tmp_path: Path) -> None:
    found = files(build(ROOT / "clients" / "python", tmp_path))
    assert found == {name.removeprefix("clients/python/") for name in tracked("clients/python/creditsd_client")}
    assert "creditsd_client/py.typed" in found


def test_what_is_in_the_wheel_is_enough_to_install_to_bench_and_to_demonstrate(
    wheel: Path, tmp_path: Path, reference_table18: Database
) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = environment(CREDITSD_DSN=reference_table18.dsn, PYTHONPATH=str(tmp_path / "site"))

    def run(*args: str) -> str:
        command = [sys.executable, "-m", "creditsd", *args]
        done = subprocess.run(command, env=env, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [sys.executable, "-c", "import creditsd.cli; print(creditsd.cli.__file__)"]
    found = subprocess.run(where, env=env, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert found.startswith(str(tmp_path / "site"))
    assert "CREATE SCHEMA" in run("install", "--print")
    assert json.loads(run("bench", "--clients", "2", "--seconds", "0.3", "--json"))
    assert "credits" in run("demo", "--duration", "2", "--port", str(free_port()))


@pytest.mark.parametrize("arguments", [["--help"], ["status"], ["serve"]])
def test_without_any_libpq_one_line_says_what_to_install(arguments: list[str]) -> None:
    # What psycopg tries: its two compiled packages, then the system's library.
    program = """
import ctypes.util, sys
sys.modules["psycopg_c"] = sys.modules["psycopg_binary"] = None
ctypes.util.find_library = lambda name: None
from creditsd.__main__ import main
main()
"""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment(), check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("creditsd: no libpq is found (no pq wrapper available): ")
    assert "pip install 'creditsd[binary]'" in done.stderr
