"""Gathers what was set where: environment over systemd credentials over a TOML file, each with its label.

Every key is held against the known ones: a misspelt setting that is silently ignored costs somebody a night.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from creditsd.domain.errors import ConfigError

Key = tuple[str, ...]
SINKS: Key = ("sinks",)

_PREFIX = "CREDITSD_"
_TOO_DEEP = "lists or tables are nested too deeply"
_NOT_SETTINGS = {"CREDITSD_CONFIG", "CREDITSD_TEST_DSN"}
# Kubernetes and Docker links give these to every container that runs beside a service called creditsd.
_SERVICE_LINK = re.compile(r"CREDITSD_(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")


class SourcedValue(NamedTuple):
    """A value as it was found, and how the person who set it calls it."""

    value: Any
    label: str
    secret: bool = False  # came from a file of its own: never to be quoted, whatever the key is called


Gathered = dict[Key, SourcedValue]


class Origin(NamedTuple):
    """Where the settings come from: the file, and which of it the environment or a credential overrides.

    An override names both: what is set, and what is not used for it.
    """

    file: Path | None = None
    overrides: tuple[tuple[str, str], ...] = ()
    file_sets: int = 0
    """How many settings stand in the file."""


class Known(NamedTuple):
    """The keys there are: every one of them, and those of them that take a list of words."""

    keys: frozenset[Key]
    lists: frozenset[Key]


def gather(known: Known, config: Path | None, environ: Mapping[str, str]) -> tuple[Gathered, Origin]:
    """Read every origin; the later one wins. Raises ConfigError at the first thing that is not right."""
    in_file = _from_toml(known, config) if config else {}
    above = {
        **_from_credentials(known, environ.get("CREDENTIALS_DIRECTORY", "")),
        **_from_environment(known, environ),
    }
    overrides = tuple((above[key].label, in_file[key].label) for key in in_file if key in above)
    return {**in_file, **above}, Origin(config, overrides, len(in_file))


def _from_environment(known: Known, environ: Mapping[str, str]) -> Gathered:
    layer = _Layer(known, Path(), in_environment)
    for name, text in sorted(environ.items()):
        if name.startswith(_PREFIX) and name not in _NOT_SETTINGS and not _is_service_link(name, text):
            layer.take(tuple(name.removeprefix(_PREFIX).lower().split("__")), text, name)
    return layer.found


def _is_service_link(name: str, text: str) -> bool:
    return _SERVICE_LINK.fullmatch(name) is not None or (name == "CREDITSD_PORT" and "://" in text)


def _from_credentials(known: Known, directory: str) -> Gathered:
    layer = _Layer(known, Path(directory), in_credentials)
    for path in sorted(Path(directory).glob("creditsd.*")) if directory else ():
        key = tuple(path.name.split(".")[1:])
        if key != ("toml",):  # that would be a whole configuration, handed over for --config
            label = f"credential {path.name}"
            layer.take(key, read_secret(path, label), label, secret=True)
    return layer.found


def _from_toml(known: Known, config: Path) -> Gathered:
    try:
        leaves = [*_leaves(known, tomllib.loads(config.read_text(encoding="utf-8-sig")))]
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {config}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{config}: byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).rstrip(")").partition(" (at ")
        raise ConfigError(f"{config}: broken TOML at {where or 'its end'}: {what}") from None
    except RecursionError:
        raise ConfigError(f"{config}: {_TOO_DEEP}") from None
    except ValueError:  # of int, which tomllib passes on
        raise ConfigError(f"{config}: a number has more digits than can be read") from None
    layer = _Layer(known, config.parent, in_toml)
    for key, value in leaves:
        layer.take(key, value, f"{config}: {in_toml(key)}")
    return layer.found


def _leaves(known: Known, table: Mapping[str, Any], above: Key = ()) -> Iterator[tuple[Key, Any]]:
    for name, value in table.items():
        key = (*above, name)
        if isinstance(value, dict) and value and key not in known.keys:
            yield from _leaves(known, value, key)
        elif value != {} or key in known.keys:
            yield key, value


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one origin sets. `folder` is where relative paths start; `write` spells a key the origin's way."""

    known: Known
    folder: Path
    write: Callable[[Key], str]
    found: Gathered = field(default_factory=dict)

    def take(self, key: Key, value: Any, label: str, *, secret: bool = False) -> None:
        """Put one value where it belongs, reading the file that it may name."""
        stem = _without_file(key)
        if key not in self.known.keys and stem in self.known.keys:
            secret, key, value = True, stem, read_secret(_path(value, label, self.folder), label)
        if key not in self.known.keys:
            raise ConfigError(_unknown(self.known, key, label, self.write))
        if key in self.found:
            raise ConfigError(f"{label} and {self.found[key].label} are both set: keep one of them")
        try:
            parsed = _parse(self.known, key, value, label, self.folder)
        except RecursionError:
            raise ConfigError(f"{label}: {_TOO_DEEP}") from None
        self.found[key] = SourcedValue(parsed, label, secret)


def _parse(known: Known, key: Key, value: Any, label: str, folder: Path) -> Any:
    """Turn text into what the key takes, where text is how a list was written."""
    if key == SINKS:
        return _sinks(_json_or(str.split, value, label), label, folder)
    if key in known.lists:
        found = _json_or(_comma_separated, value, label)
        if isinstance(found, list):
            return [_entry(each, f"{label}[{number}]", folder) for number, each in enumerate(found, 1)]
        return found
    return value


def _entry(entry: Any, label: str, folder: Path) -> Any:
    return _with_files(entry, label, folder) if isinstance(entry, dict) else entry


def _comma_separated(text: str) -> list[str]:
    """Split at commas and at the ends of lines, as a file of keys is written."""
    return [word.strip() for line in text.splitlines() if line.strip() for word in line.split(",")]


def _json_or(split: Callable[[str], list[str]], value: Any, label: str) -> Any:
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith(("[", "{")):
        return split(value)
    try:
        return json.loads(value)
    except ValueError as error:
        raise ConfigError(f"{label}: broken JSON: {error}") from None


def _sinks(entries: Any, label: str, folder: Path) -> list[dict[str, Any]]:
    """Give every sink a table and a name: its own, or its scheme's base with -2, -3 … on repeats."""
    if not isinstance(entries, list):
        raise ConfigError(f"{label} must be a list: [[sinks]] tables, JSON, or URLs separated by spaces")
    sinks = [_sink(entry, f"{label}[{number}]", folder) for number, entry in enumerate(entries, start=1)]
    taken = {sink["name"] for sink in sinks if isinstance(sink.get("name"), str)}
    for sink in sinks:
        if "name" not in sink:
            sink["name"] = _free_name(str(sink["url"]), taken)
            taken.add(sink["name"])
    return sinks


def _sink(entry: Any, label: str, folder: Path) -> dict[str, Any]:
    table = {"url": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict):
        raise ConfigError(f"{label} must be a URL or a table with name and url")
    sink = _with_files(table, label, folder)
    if not isinstance(sink.get("url"), str):
        raise ConfigError(f"{label}: url is missing, e.g. redis://localhost:6379/0")
    return sink


def _with_files(table: dict[str, Any], label: str, folder: Path) -> dict[str, Any]:
    """Put the text of a file in place of each key that names one."""
    read: dict[str, Any] = {}
    for option, value in table.items():
        name = option.removesuffix("_file") or option
        if name in read or (name != option and name in table):
            raise ConfigError(f"{label}: {name} and {name}_file are both set: keep one of them")
        where = f"{label}.{option}"
        if name != option:
            read[name] = read_secret(_path(value, where, folder), where)
        else:
            read[name] = _with_files(value, where, folder) if isinstance(value, dict) else value
    return read


def _free_name(url: str, taken: set[str]) -> str:
    base = url.partition(":")[0].partition("+")[0]
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name


def _path(value: Any, label: str, folder: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{label} must be the path of a file")
    return folder / value


def read_secret(path: Path, label: str) -> str:
    """Return a file's text without its trailing newline."""
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{label}: cannot read {path}: {error.strerror}{_credential_hint(path)}") from None
    except (UnicodeDecodeError, ValueError):
        raise ConfigError(f"{label}: cannot read {path}: it is not text") from None


def _credential_hint(path: Path) -> str:
    """Say who may read what systemd keeps for a unit."""
    if not path.is_relative_to("/run/credentials"):
        return ""
    return ": systemd shows it to its unit and to root alone, while that unit runs: sudo creditsd ..."


def _without_file(key: Key) -> Key:
    return (*key[:-1], key[-1].removesuffix("_file"))


def in_environment(key: Key) -> str:
    """Write a key the way the environment does."""
    return _PREFIX + "__".join(key).upper()


def in_toml(key: Key) -> str:
    """Write a key the way TOML does."""
    return ".".join(key)


def in_credentials(key: Key) -> str:
    """Write a key the way a systemd credential is called."""
    return ".".join(("creditsd", *key))


def _unknown(known: Known, key: Key, label: str, write: Callable[[Key], str]) -> str:
    """Say which key there is not, and the one that was probably meant."""
    line = f"unknown setting {label}" if write is not in_toml else label.replace(": ", ": unknown setting ", 1)
    stem = _without_file(key)
    meant = nearest(write(stem), {write(other): other for other in known.keys}, stem)
    if meant is None:
        there = sorted({write(other) for other in known.keys if other[:-1] == key[:-1]})
        return f"{line}: there are {', '.join(there)}" if there else line
    line = f"{line}: did you mean {write(meant)}{_file_suffix(key, stem, write)}?"
    if write is in_toml and len(meant) == 1 and len(key) > 1:
        line += " (it belongs above the first [section])"
    return line


def _file_suffix(key: Key, stem: Key, write: Callable[[Key], str]) -> str:
    return write(key)[len(write(stem)) :] if key != stem else ""


def nearest(written: str, candidates: Mapping[str, Key], key: Key) -> Key | None:
    """Return the key that was probably meant: one of the same last word elsewhere, or the most alike."""
    same = {text: other for text, other in candidates.items() if other[-1] == key[-1]}
    for among, cutoff in ((same, 0.0), (candidates, 0.7)):
        alike = difflib.get_close_matches(written, among, n=1, cutoff=cutoff)
        if alike:
            return among[alike[0]]
    return _alike_by_last_word(key, candidates.values())


def _alike_by_last_word(key: Key, candidates: Iterable[Key]) -> Key | None:
    by_word = {other[-1]: other for other in candidates}
    alike = difflib.get_close_matches(key[-1], by_word, n=1, cutoff=0.65)
    return by_word[alike[0]] if alike else None
