"""deploy/debian: what can be told of the package without making it; tests/boot installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from creditsd.cli.app import command_line

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "debian"

mandoc = shutil.which("mandoc")


@pytest.fixture(scope="module")
def manual() -> str:
    command = [sys.executable, str(FOLDER / "manual.py"), "--date", "1700000000"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_manual_has_every_command_and_every_exit_code(manual: str) -> None:
    sections = re.findall(r'^\.SS "creditsd (.+?)"', manual, re.MULTILINE)
    names = [each.name or getattr(each.callback, "__name__", "") for each in command_line().registered_commands]
    groups = [
        str(each.typer_instance.info.name)
        for each in command_line().registered_groups
        if each.typer_instance is not None
    ]
    assert {each.split()[0] for each in sections} == {*names, *groups}
    assert {".B 0", ".B 69", ".B 78"} <= set(manual.partition(".SH EXIT STATUS")[2].splitlines())
    assert "2023-11-14" in manual.splitlines()[0]


@pytest.mark.skipif(mandoc is None, reason="needs mandoc (Debian: apt-get install mandoc)")
def test_the_manual_is_one_that_man_reads(manual: str) -> None:
    assert mandoc is not None
    done = subprocess.run(
        [mandoc, "-Tlint", "-W", "warning"], input=manual, check=False, capture_output=True, text=True
    )
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm", "build"])
def test_a_script_is_one_that_its_shell_reads(name: str) -> None:
    script = FOLDER / name
    shell = script.read_text(encoding="utf-8").partition("\n")[0].rpartition("/")[2].split()[-1]
    subprocess.run([shell, "-n", str(script)], check=True)
    assert script.stat().st_mode & 0o111


def test_units_have_the_command_that_the_package_puts_elsewhere() -> None:
    units = sorted((ROOT / "systemd").glob("*.service"))
    assert len(units) >= 2
    for unit in units:
        text = unit.read_text(encoding="utf-8")
        assert re.search(r"^ExecStart=/opt/creditsd/bin/creditsd ", text, re.MULTILINE), unit.name
        assert "\n[Unit]\n" in text
        assert re.search(r"/bin/kill\b", text) is None, "a minimal Debian has none"
