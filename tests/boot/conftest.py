from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.machine import PLACE, ROOT, Machine, booted, missing


@pytest.fixture(scope="session")
def shared() -> Path:
    """What machines see at /shared: the package, the same as a later one, the units, and wheels of all that runs."""
    if reason := missing():
        pytest.skip(reason)
    folder = PLACE / "shared"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _run("make", "--no-print-directory", "deb")
    root = ROOT / "build" / "deb" / "root"
    control = root / "DEBIAN" / "control"
    for revision in ("1", "2"):
        control.write_text(re.sub(r"(?m)^(Version: .*)-\d+$", rf"\1-{revision}", control.read_text()))
        _run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(folder))
    shutil.copytree(ROOT / "systemd", folder / "systemd")
    wheels = ["--quiet", "--no-deps", "--dest", str(folder / "wheels")]
    locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", "requirements/image.txt"]
    pip = [sys.executable, "-m", "pip"]
    _run(*pip, "--python", os.environ.get("DEB_PYTHON", "/usr/bin/python3"), "download", *wheels, *locked)
    _run(*pip, "wheel", *wheels[:-2], "--no-build-isolation", "--wheel-dir", wheels[-1], ".")
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def machine(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine") / "console", shared) as machine:
        yield machine
